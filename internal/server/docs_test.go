// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/lazybpf/lazybpf/pkg/control"
)

// The tests below hold docs/api.md to the code.

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile("../../" + path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDocsHaveEverything(t *testing.T) {
	page := read(t, "docs/api.md")
	for _, r := range routes {
		takes := map[right]string{reads: "reading", acts: "root"}[r.right]
		if !strings.Contains(page, "\n## "+r.pattern+"\n") || !strings.Contains(page, "| [`"+r.pattern+"`]") ||
			!regexp.MustCompile(`(?m)^\| \[.`+r.pattern+`.\]\(.*\) \| `+takes+` \|`).MatchString(page) {
			t.Errorf("%s, which takes %s, has no chapter or is not in the table", r.pattern, takes)
		}
	}
	codes := []string{control.CodeBadRequest, control.CodeFailed}
	for _, c := range statusCodes {
		codes = append(codes, c.code)
	}
	for _, code := range codes {
		if !strings.Contains(page, "\n| `"+code+"` | ") {
			t.Errorf("code %s is not explained", code)
		}
	}
	for _, kind := range control.Kinds {
		if !strings.Contains(page, "`"+kind+"`") {
			t.Errorf("state %s is not named", kind)
		}
	}
	for _, object := range []any{control.Status{}, control.Peer{}, control.Wake{}, control.Event{}, control.Result{}} {
		for f := range reflect.TypeOf(object).Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !strings.Contains(page, "`"+name+"`") {
				t.Errorf("%s of %T is not explained", name, object)
			}
		}
	}
}

// answers are the types that the endpoints answer with; of events, one line.
var answers = map[string]reflect.Type{
	"status": reflect.TypeFor[control.Status](), "events": reflect.TypeFor[control.Event](),
	"wake": reflect.TypeFor[[]control.Result](), "sleep": reflect.TypeFor[[]control.Result](),
	"exclude": reflect.TypeFor[[]control.Result](), "include": reflect.TypeFor[[]control.Result](),
	"reload": reflect.TypeFor[struct{}](),
}

// TestDocsExamples: what curl sends and is answered has the fields that the
// types have, all of them and no other, in their order.
func TestDocsExamples(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(read(t, "docs/api.md"), -1)
	// A command goes on after a backslash. Its output goes on until the next.
	example := regexp.MustCompile(`(?m)^\$ ((?:.*\\\n)*.*)\n((?:[^$].*\n)*)`)
	request := regexp.MustCompile(`http://lazybpf/v1/(\w+)`)
	body := regexp.MustCompile(`-d '(.*)'`)
	seen := make(map[string]bool)
	for _, block := range blocks {
		for _, e := range example.FindAllStringSubmatch(block[1], -1) {
			command, output := e[1], e[2]
			verb := request.FindStringSubmatch(command)
			if verb == nil || answers[verb[1]] == nil {
				t.Errorf("no request: %s", command)
				continue
			}
			if sent := body.FindStringSubmatch(command); sent != nil {
				exactly(t, sent[1], reflect.TypeFor[control.Request]())
			}
			kind := answers[verb[1]]
			if strings.HasPrefix(output, `{"error"`) {
				kind = reflect.TypeFor[control.Error]()
			}
			values := []string{output}
			if verb[1] == "events" {
				values = strings.Split(strings.TrimSpace(output), "\n")
			}
			for _, value := range values {
				exactly(t, value, kind)
			}
			seen[kind.String()] = true
			seen[verb[1]] = true
		}
	}
	for verb, kind := range answers {
		if !seen[verb] || !seen[kind.String()] {
			t.Errorf("no example of %s", verb)
		}
	}
	if !seen["control.Error"] {
		t.Error("no example of an error")
	}
}

// exactly checks that a type reads JSON and writes the same again.
func exactly(t *testing.T, text string, kind reflect.Type) {
	t.Helper()
	value := reflect.New(kind)
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value.Interface()); err != nil {
		t.Errorf("%s: %v\n%s", kind, err, text)
		return
	}
	var compact, again bytes.Buffer
	if err := json.Compact(&compact, []byte(text)); err != nil {
		t.Errorf("%s: %v\n%s", kind, err, text)
		return
	}
	if err := control.NewEncoder(&again).Encode(value.Interface()); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimSpace(compact.String()), strings.TrimSpace(again.String()); got != want {
		t.Errorf("the page has\n%s\nand a daemon would write\n%s", got, want)
	}
}

// TestDocsInGo: the Go of the page is that of an example, which compiles.
func TestDocsInGo(t *testing.T) {
	code := regexp.MustCompile("(?s)```go\n(.*?)```").FindStringSubmatch(read(t, "docs/api.md"))
	indent := regexp.MustCompile(`(?m)^\t+`)
	if code == nil || !strings.Contains(indent.ReplaceAllString(read(t, "pkg/control/example_test.go"), ""), indent.ReplaceAllString(code[1], "")) {
		t.Error("the Go of docs/api.md is not in example_test.go")
	}
}
