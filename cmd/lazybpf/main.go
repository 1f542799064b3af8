// SPDX-License-Identifier: Apache-2.0

// Command lazybpf keeps WireGuard peers dormant until a packet needs them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// patienceOfSignals is how long a command may take to end before another signal kills it.
const patienceOfSignals = 3 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal kills, but not one that comes with the first: timeout(1) sends two, and who presses Ctrl-C twice wants
	// keepalives to be given back all the same.
	context.AfterFunc(ctx, func() { time.AfterFunc(patienceOfSignals, stop) })
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command and returns its exit code. Where that is not 0, there is one line on stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	if errors.Is(err, errTold) {
		return exitFailed
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	line := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(stderr, "lazybpf: %s: see `%s --help`\n", line, cmd.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(stderr, "lazybpf: %s\n", line)
	return exitFailed
}
