// SPDX-License-Identifier: Apache-2.0

package vt

import (
	"encoding/xml"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestScreen(t *testing.T) {
	for _, test := range []struct{ name, output, want string }{
		{"text", "one\r\ntwo", "one\ntwo\n"},
		{"wraps after the last column", "12345678", "12345678\n"},
		{"wraps", "123456789", "12345678\n9\n"},
		{"scrolls", "1\r\n2\r\n3\r\n4\r\n5", "2\n3\n4\n5\n"},
		{"returns and steps back", "abc\rX\x1b[2CY\bZ", "XbcZ\n"},
		{"tab", "a\tb", "a      b\n"},
		{"moves", "\x1b[2;3Ha\x1b[Ab\x1b[2Bc\x1b[3D\x1b[1Cd\x1b[4dx\x1b[2Gy", "   b\n  a\n   dc\n y  x\n"},
		{"moves no further than the edge", "\x1b[99;99Hx\x1b[99D\x1b[99Ay", "y\n\n\n       x\n"},
		{"next and previous line", "a\x1b[Eb\x1b[2Ec\x1b[Fd", "a\nb\nd\nc\n"},
		{"clears", "abc\r\ndef\x1b[2J\x1b[Hx", "x\n"},
		{"clears the rest of the screen", "abc\r\ndef\x1b[1;2H\x1b[J", "a\n"},
		{"clears the screen until here", "abc\r\ndef\x1b[2;2H\x1b[1J", "\n  f\n"},
		{"clears of a line", "abcd\x1b[3D\x1b[K\r\nabcd\x1b[3D\x1b[1K\r\nabcd\x1b[2K", "a\n  cd\n"},
		{"clears after the last column", "12345678\x1b[K", "1234567\n"},
		{"clears, deletes and inserts characters", "abcdef\x1b[5D\x1b[2Xx\x1b[P\x1b[2@y", "axy def\n"},
		{"deletes and inserts lines", "1\r\n2\r\n3\r\n4\x1b[2;1H\x1b[M\x1b[1;1H\x1b[2L", "\n\n1\n3\n"},
		{"scrolls a region", "1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[S\x1b[3;1Hx", "1\n3\nx\n4\n"},
		{"feeds in a region", "1\r\n2\r\n3\r\n4\x1b[1;2r\x1b[2;1H\nx", "2\nx\n3\n4\n"},
		{"feeds back at the top", "1\r\n2\x1b[1;1H\x1bMx", "x\n1\n2\n"},
		{"repeats", "a\x1b[3b", "aaaa\n"},
		{"saves and restores", "ab\x1b7cd\x1b8x", "abxd\n"},
		{"the alternate screen and back", "old\x1b[?1049h\x1b[Hnew\x1b[?1049l", "old\n"},
		{"keeps titles and queries to itself", "a\x1b]0;title\ab\x1b]8;;link\x1b\\c\x1bPq\x1b\\d\x1b[>c\x1b[?2026$pe\x1b(Bf", "abcdef\n"},
	} {
		whole, bytewise := New(8, 4), New(8, 4)
		_, _ = whole.Write([]byte(test.output))
		for i := range len(test.output) {
			_, _ = bytewise.Write([]byte{test.output[i]})
		}
		if got := whole.String(); got != test.want {
			t.Errorf("%s: got\n%q\nwant\n%q", test.name, got, test.want)
		}
		if got := bytewise.String(); got != test.want {
			t.Errorf("%s, byte by byte: got\n%q\nwant\n%q", test.name, got, test.want)
		}
	}
}

func TestStyle(t *testing.T) {
	for output, want := range map[string]Style{
		"":                          {},
		"\x1b[1;2;3;4;7m":           {Bold: true, Dim: true, Italic: true, Underline: true, Reverse: true},
		"\x1b[1;3;4;7;22;23;24;27m": {},
		"\x1b[31;102m":              {Fore: ansi[1], Back: ansi[10]},
		"\x1b[91;44m":               {Fore: ansi[9], Back: ansi[4]},
		"\x1b[31;44;39;49m":         {},
		"\x1b[38;5;196;1m":          {Fore: Colour{true, 255, 0, 0}, Bold: true},
		"\x1b[48;2;1;2;3m":          {Back: Colour{true, 1, 2, 3}},
		"\x1b[38;5;250m":            {Fore: Colour{true, 188, 188, 188}},
		"\x1b[31m\x1b[m":            {},
	} {
		s := New(8, 1)
		_, _ = s.Write([]byte(output + "x"))
		if got := s.Cells(0)[0]; got != (Cell{'x', want}) {
			t.Errorf("%q: %+v, want %+v", output, got, want)
		}
	}
}

// FuzzScreen writes what no program should, in two parts.
func FuzzScreen(f *testing.F) {
	f.Add([]byte("a\x1b[2;3Hb\x1b[?1049h\x1b[K\x1b[9L"), 4)
	f.Add([]byte("\x1b[9;12r\x1b[S\x1b[3;2r\n\x1b[1;1H\x1bM\x1b[S\x1b[99@"), 2)
	f.Add([]byte("\x1b]0;title\a\xe2\x80\xa6"), 9)
	f.Fuzz(func(t *testing.T, output []byte, cut int) {
		if cut < 0 || cut > len(output) {
			return
		}
		parts, whole := New(8, 4), New(8, 4)
		_, _ = parts.Write(output[:cut])
		_, _ = parts.Write(output[cut:])
		_, _ = whole.Write(output)
		if parts.String() != whole.String() {
			t.Errorf("%q, cut at %d: %q, and whole %q", output, cut, parts, whole)
		}
	})
}

func TestProgram(t *testing.T) {
	cmd := exec.Command("sh", "-c", `stty size; read word; stty size; echo "and $word"; exit 3`)
	cmd.Env = os.Environ()
	p, err := Start(cmd, 30, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if text, ok := p.Await(10*time.Second, func(text string) bool { return text == "7 30\n" }); !ok {
		t.Fatalf("it sees another terminal: %q", text)
	}
	if err := p.Resize(40, 9); err != nil {
		t.Fatal(err)
	}
	if err := p.Type("this\n"); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(10 * time.Second); err == nil || err.Error() != "exit status 3" {
		t.Errorf("it ends with %v", err)
	}
	if got := p.Text(); !strings.HasSuffix(got, "9 40\nand this\n") {
		t.Errorf("got %q", got)
	}
}

func TestSVG(t *testing.T) {
	s := New(10, 4)
	_, _ = s.Write([]byte("a <b>\r\n  \x1b[2;31mdim\x1b[0m\x1b[7m▄─ \x1b[0m"))
	var b strings.Builder
	if err := s.SVG(&b, "R&D"); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{
		`width="112" height="64"`, "<title>R&amp;D</title>",
		`<text x="14.0" y="27.5" textLength="42.0" xml:space="preserve" fill="#c8ccd4">a &lt;b&gt;</text>`,
		`<text x="30.8" y="45.5" textLength="25.2" xml:space="preserve" fill="#e06c75" opacity="0.6">dim</text>`,
		`<rect x="56.0" y="32.00" width="25.2" height="18.00" fill="#c8ccd4"/>`,
		`<rect x="56.0" y="41.00" width="8.4" height="9.00" fill="#1d1f21"/>`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	for dec := xml.NewDecoder(strings.NewReader(got)); ; {
		if _, err := dec.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("it is no XML: %v\n%s", err, got)
		}
	}
}
