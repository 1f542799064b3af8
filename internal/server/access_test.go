// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/lazybpf/lazybpf/pkg/control"
)

// Users and groups that nobody has.
const (
	daemonUser = 61800
	reader     = 61801
	other      = 61802
	readers    = 61811
	others     = 61812
)

// asking is the environment's name of the socket for a process of another user.
const asking = "LAZYBPF_TEST_ASK"

// serving says to that process to serve the socket, too, for a group.
const serving = "LAZYBPF_TEST_SERVE"

// crowding says to that process to have as many connections as it may, and one more.
const crowding = "LAZYBPF_TEST_CROWD"

// crowdIn writes whether the daemon answers with so many connections, and with one less.
func crowdIn(path string) {
	var conns []net.Conn
	for range maxConnections {
		conn, err := net.Dial("unix", path)
		if err != nil {
			panic(err)
		}
		conns = append(conns, conn)
	}
	client, ctx := control.NewClient(path), context.Background()
	_, err := client.Status(ctx, control.Filter{})
	fmt.Println("refused:", errors.Is(err, control.ErrStopped))
	conns[0].Close()
	for err != nil { // until the daemon has noticed
		_, err = client.Status(ctx, control.Filter{})
	}
	fmt.Println("answered")
}

// ask does all that a client can on a socket, and writes what became of it:
// "ok", or the error.
func ask(path string) {
	if os.Getenv(crowding) != "" {
		crowdIn(path)
		return
	}
	if text, ok := os.LookupEnv(serving); ok {
		group, err := ParseGroup(text)
		if err != nil {
			panic(err)
		}
		l, err := Listen(path, group)
		if err != nil {
			fmt.Println(err)
			return
		}
		server := &Server{Backend: counting(new([]string))}
		go func() { _ = server.Serve(context.Background(), l) }() // until the process ends
	}
	client, ctx := control.NewClient(path), context.Background()
	_, err := client.Status(ctx, control.Filter{})
	report("status", err)
	changes, err := client.Subscribe(ctx)
	if err == nil {
		_, err = changes.Next()
		changes.Close()
	}
	report("events", err)
	for _, verb := range []struct {
		name string
		do   func(context.Context, []string) ([]control.Result, error)
	}{{"wake", client.Wake}, {"sleep", client.Sleep}, {"exclude", client.Exclude}, {"include", client.Include}} {
		_, err := verb.do(ctx, []string{"laptop"})
		report(verb.name, err)
	}
	report("reload", client.Reload(ctx))
}

func report(what string, err error) {
	text := "ok"
	if err != nil {
		text = err.Error()
		if !errors.Is(err, control.ErrForbidden) || !errors.Is(err, fs.ErrPermission) {
			text += " (and that is not ErrForbidden)"
		}
	}
	fmt.Printf("%s: %s\n", what, text)
}

// askAs runs ask as another user, and returns what it wrote.
func askAs(t *testing.T, path string, who syscall.Credential, env ...string) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), asking+"="+path), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &who}
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%+v: %v\n%s", who, err, out)
	}
	return string(out)
}

// allowed is what ask writes where all of the first n requests are, and the
// others are answered by an error.
func allowed(n int, failure string) string {
	var b strings.Builder
	for i, verb := range []string{"status", "events", "wake", "sleep", "exclude", "include", "reload"} {
		if i < n {
			fmt.Fprintf(&b, "%s: ok\n", verb)
		} else {
			fmt.Fprintf(&b, "%s: %s\n", verb, failure)
		}
	}
	return b.String()
}

// counting is a backend that counts what was done.
func counting(acts *[]string) fakeBackend {
	return fakeBackend{
		status: func(control.Filter) (control.Status, error) { return sampleStatus(), nil },
		events: func(_ context.Context, begin func() error, send func(control.Event) error) error {
			return errors.Join(begin(), send(sampleEvent()))
		},
		peers: func(_ context.Context, verb string, _ []string) ([]control.Result, error) {
			*acts = append(*acts, verb)
			return []control.Result{}, nil
		},
		reload: func() error { *acts = append(*acts, "reload"); return nil },
	}
}

// openDir makes the folder of a test one that every user may enter, as
// /run/lazybpf is.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "lazybpf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestAccess has processes of several users at a socket that all may connect
// to, so that it is the daemon that refuses, and as it is.
func TestAccess(t *testing.T) {
	group := Group{Name: "lazybpf", ID: readers}
	many := make([]uint32, 200) // more than is made room for at first
	for i := range many {
		many[i] = 70000 + uint32(i)
	}
	root := allowed(7, "")
	may := "permission denied: user %d may "
	reads := allowed(2, fmt.Sprintf(may, reader)+"only look: the rest takes root")
	none := allowed(0, fmt.Sprintf(may, other)+"not ask: it takes root, or for looking only, a member of group lazybpf")
	without := allowed(0, fmt.Sprintf(may, other)+"not ask: it takes root")
	for _, test := range []struct {
		name    string
		readers Group
		who     syscall.Credential
		open    bool // the socket is, whatever its mode was
		want    string
	}{
		{"root", group, syscall.Credential{}, false, root},
		{"root without a group", Group{}, syscall.Credential{}, false, root},
		{"group", group, syscall.Credential{Uid: reader, Gid: readers}, false, reads},
		{"supplementary group", group, syscall.Credential{Uid: reader, Gid: others, Groups: []uint32{others, readers}}, false, reads},
		{"one of many groups", group, syscall.Credential{Uid: reader, Gid: others, Groups: append(many, readers)}, false, reads},
		{"another group", group, syscall.Credential{Uid: other, Gid: others, Groups: many}, true, none},
		{"no group", Group{}, syscall.Credential{Uid: other, Gid: readers, Groups: []uint32{0}}, true, without},
		{"root's group", Group{}, syscall.Credential{Uid: other, Gid: 0}, true, without},
	} {
		t.Run(test.name, func(t *testing.T) {
			var acts []string
			path := serveAt(t, filepath.Join(openDir(t), "wg0.sock"), test.readers, counting(&acts), t.Output())
			if test.open {
				if err := os.Chmod(path, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			if got := askAs(t, path, test.who); got != test.want {
				t.Errorf("got\n%swant\n%s", got, test.want)
			}
			if test.want != root && len(acts) > 0 {
				t.Errorf("done all the same: %q", acts)
			}
		})
	}
}

// TestAccessByMode has processes that the socket's own mode keeps out.
func TestAccessByMode(t *testing.T) {
	for _, group := range []Group{{}, {Name: "lazybpf", ID: readers}} {
		path := serveAt(t, filepath.Join(openDir(t), "wg0.sock"), group, fakeBackend{}, t.Output())
		denied := "permission denied: " + path + ": needs root, or to look only, a member of the daemon's --control-group"
		if got := askAs(t, path, syscall.Credential{Uid: other, Gid: others}); got != allowed(0, denied) {
			t.Errorf("got\n%swant\n%s", got, allowed(0, denied))
		}
	}
}

// TestAccessOfOwnUser has a daemon that is not root, and a client of its user.
func TestAccessOfOwnUser(t *testing.T) {
	dir := openDir(t)
	if err := os.Chown(dir, daemonUser, -1); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "wg0.sock")
	who := syscall.Credential{Uid: daemonUser, Gid: others}
	if got := askAs(t, path, who, serving+"="); got != allowed(7, "") {
		t.Errorf("got\n%s", got)
	}
	// Its process has ended without removing the socket. A group that it is
	// not in takes a capability, and without one nothing is left.
	const refused = "control socket for group 61811: lchown %[1]s: operation not permitted: " +
		"lazybpf must be in that group, or have CAP_CHOWN\n"
	if got := askAs(t, path, who, serving+"=61811"); got != fmt.Sprintf(refused, path) {
		t.Errorf("got\n%s", got)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	who.Groups = []uint32{readers}
	if got := askAs(t, path, who, serving+"=61811"); got != allowed(7, "") {
		t.Errorf("got\n%s", got)
	}
}

// TestCrowd has a user who takes all the connections that there are for one user: others notice nothing of it.
func TestCrowd(t *testing.T) {
	var log bytes.Buffer
	group := Group{Name: "lazybpf", ID: readers}
	path := serveAt(t, filepath.Join(openDir(t), "wg0.sock"), group, counting(new([]string)), &log)
	for range maxConnections { // half a request each, of root, whom nobody counts
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /v1/status HTTP/1.1\r\nHost: lazy"); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // who has left is not counted any more
		got := askAs(t, path, syscall.Credential{Uid: reader, Gid: readers}, crowding+"=yes")
		if want := "refused: true\nanswered\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := askAs(t, path, syscall.Credential{}); got != allowed(7, "") {
		t.Errorf("root: %s", got)
	}
	if n := strings.Count(log.String(), fmt.Sprintf("user %d has %d connections already", reader, maxConnections)); n != 1 {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
}

// TestAccessOfNobody has a connection of which the kernel knows no user.
func TestAccessOfNobody(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	if err := clientOf(ours).may(reads, Group{}); !errors.Is(err, control.ErrForbidden) {
		t.Errorf("got %v", err)
	}
}

// TestRefusalsAreLogged has seven requests of one user, and as many of another.
func TestRefusalsAreLogged(t *testing.T) {
	var log bytes.Buffer
	path := serveAt(t, filepath.Join(openDir(t), "wg0.sock"), Group{Name: "lazybpf", ID: readers}, fakeBackend{}, &log)
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	askAs(t, path, syscall.Credential{Uid: other, Gid: others})
	askAs(t, path, syscall.Credential{Uid: other, Gid: others})
	askAs(t, path, syscall.Credential{Uid: daemonUser, Gid: others})
	for _, uid := range []int{other, daemonUser} {
		if n := strings.Count(log.String(), fmt.Sprintf("user %d may not ask", uid)); n != 1 {
			t.Errorf("%d lines about user %d:\n%s", n, uid, log.String())
		}
	}
}

func TestRefusalsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r refusals
		for i, want := range []bool{true, false, true, false} { // at 0, 40, 80 and 120 s
			if got := r.due(other); got != want {
				t.Errorf("at %d s: %v, want %v", 40*i, got, want)
			}
			time.Sleep(40 * time.Second)
		}
		if !r.due(reader) {
			t.Error("one user keeps another out of the log")
		}
		time.Sleep(time.Hour)
		r.due(other)
		if len(r.last) != 1 {
			t.Errorf("%d users are remembered", len(r.last))
		}
	})
}

// serveAt is serve with a path, readers and a log.
func serveAt(t *testing.T, path string, readers Group, b Backend, log interface{ Write([]byte) (int, error) }) string {
	t.Helper()
	logger := logrus.New()
	logger.SetOutput(log)
	start(t, path, &Server{Backend: b, Readers: readers, Log: logger})
	return path
}
