// SPDX-License-Identifier: Apache-2.0

// Command screenshots makes the pictures in docs/images: what `lazybpf status`, `top` and `demo` really show, and what is
// on the Grafana dashboard, of real WireGuard with real traffic. It takes root, Prometheus and six minutes, and runs in
// networks of its own, of which nothing is left. Those that are named are made, or all.
//
//	go run ./hack/screenshots bin/lazybpf docs/images [demo] [live] [dashboard]
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lazybpf/lazybpf/internal/lab"
	"github.com/lazybpf/lazybpf/internal/vt"
	"github.com/lazybpf/lazybpf/pkg/control"
)

var pictures = map[string]func(lazybpf, dir string) error{"demo": demo, "live": live, "dashboard": dashboardPicture}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: screenshots LAZYBPF DIR [PICTURE...]")
		os.Exit(2)
	}
	lazybpf, dir, names := os.Args[1], os.Args[2], os.Args[3:]
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(pictures))
	}
	code, err := lab.Reexec(func() (code int) {
		for _, name := range names {
			err := errors.New("there is no such picture")
			if makes := pictures[name]; makes != nil {
				err = makes(lazybpf, dir)
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
				code = 1
			}
		}
		return code
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// size of the terminal: as wide as a README shows without making it smaller.
const width, height = 100, 27

func start(height int, lazybpf string, args ...string) (*vt.Program, error) {
	cmd := exec.Command(lazybpf, args...)
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "NO_COLOR=")
	return vt.Start(cmd, width, height)
}

// save draws what a program has written, below the command that a person would have typed.
func save(p *vt.Program, path string, prompt bool, height int) (err error) {
	command := strings.Join(append([]string{"lazybpf"}, p.Cmd.Args[1:]...), " ")
	screen := vt.New(width, height+1)
	if prompt {
		fmt.Fprintf(screen, "\x1b[1m# %s\x1b[0m\r\n", command)
	}
	p.Look(func(_ *vt.Screen, raw string) { fmt.Fprint(screen, raw) })
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return screen.SVG(file, command)
}

// demo is run in a lab of its own, within ours.
func demo(lazybpf, dir string) error {
	const height = 60
	p, err := start(height, "env", "LAZYBPF_LAB=", lazybpf, "demo")
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Wait(time.Minute); err != nil {
		return fmt.Errorf("lazybpf demo: %w\n%s", err, p.Text())
	}
	p.Cmd.Args = p.Cmd.Args[2:]
	return save(p, filepath.Join(dir, "demo.svg"), true, height)
}

// live runs a daemon on a hub whose peers talk for a while, then takes the pictures of top and status.
func live(lazybpf, dir string) error {
	h, err := newHub()
	if err != nil {
		return err
	}
	defer h.close()
	stop, err := h.manage(lazybpf, "--inactivity-threshold", "15s")
	if err != nil {
		return err
	}
	defer stop()
	top, err := start(height, lazybpf, "top", h.iface())
	if err != nil {
		return err
	}
	defer top.Close()
	h.talk(45 * time.Second)
	if err := top.Type("g"); err != nil {
		return err
	}
	if text, ok := top.Await(10*time.Second, func(text string) bool { return strings.Contains(text, "─ 1 of ") }); !ok {
		return fmt.Errorf("lazybpf top does not select its first peer:\n%s", text)
	}
	if err := save(top, filepath.Join(dir, "top.svg"), false, height); err != nil {
		return err
	}
	status, err := start(height, lazybpf, "status", h.iface())
	if err != nil {
		return err
	}
	defer status.Close()
	if err := status.Wait(10 * time.Second); err != nil {
		return err
	}
	return save(status, filepath.Join(dir, "status.svg"), true, height)
}

// manage runs a daemon on the hub until stop.
func (h *hub) manage(lazybpf string, options ...string) (stop func(), err error) {
	daemon := exec.Command(lazybpf, append([]string{"run", h.iface(), "--log-level", "error"}, options...)...)
	daemon.Stderr = os.Stderr
	if err := daemon.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = daemon.Process.Signal(os.Interrupt)
		_ = daemon.Wait()
	}
	client := control.NewClient(control.Path(h.iface()))
	err = await(h.ctx, func() error {
		_, err := client.Status(h.ctx, control.Filter{})
		return err
	})
	if err != nil {
		stop()
	}
	return stop, err
}

// await does it again and again until it goes well.
func await(ctx context.Context, try func() error) error {
	for deadline := time.Now().Add(20 * time.Second); ; {
		err := try()
		if err == nil || time.Now().After(deadline) || !pause(ctx, 50*time.Millisecond) {
			return err
		}
	}
}
