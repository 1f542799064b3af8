// SPDX-License-Identifier: Apache-2.0

// Package top is `lazybpf top`: a live view of an interface's peers.
//
// It asks the daemon for its status about once a second, and follows its events for what happens in between. All of that
// reaches the [model] as messages, with their times, and its Update is a pure function of them: whatever else is done, as
// waking a peer, is a command that it returns.
package top

import (
	"context"
	"io"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/lazybpf/lazybpf/pkg/control"
)

const (
	interval = time.Second
	// refresh is how many statuses there are to one of all peers. The others leave out those that were idle all the time.
	refresh = 10
	// coarse is more than the clock is behind that packets are stamped by.
	coarse = 50 * time.Millisecond
	// gather is how long events wait for others, to be shown together.
	gather = 100 * time.Millisecond
)

// Run shows the interface of a daemon on a terminal until a person quits or ctx is done. A daemon that stops, or is not
// there yet, is waited for; but without one at the beginning Run fails.
func Run(ctx context.Context, client *control.Client, in io.Reader, out io.Writer) error {
	status, err := client.Status(ctx, control.Filter{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := newModel(actions(ctx, client))
	m.take(statusMsg{status: status, at: time.Now()})

	program := tea.NewProgram(m, tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler(), tea.WithFPS(20))
	// Not WithContext: a program that is killed does not wait for its reader of the terminal.
	defer context.AfterFunc(ctx, program.Quit)()
	var feeds sync.WaitGroup
	feeds.Go(func() { poll(ctx, client, program.Send) })
	feeds.Go(func() { follow(ctx, client, program.Send) })
	_, err = program.Run()
	cancel()
	feeds.Wait()
	return err
}

// statusMsg is an answer of the daemon, or why there was none.
type statusMsg struct {
	status control.Status
	part   bool // of the peers: nothing has changed of the others
	err    error
	at     time.Time
}

// eventsMsg is what happened within a short time.
type eventsMsg []control.Event

// poll asks again and again, and is idle for three quarters of the time at least: a daemon of very many peers, and this
// program, have better to do.
func poll(ctx context.Context, client *control.Client, send func(tea.Msg)) {
	var since time.Time
	for n := 1; ; n++ {
		begin := time.Now()
		status, err := client.Status(ctx, control.Filter{Since: since})
		now := time.Now()
		if ctx.Err() != nil {
			return
		}
		send(statusMsg{status: status, part: !since.IsZero(), err: err, at: now})
		since = begin.Add(-coarse)
		if n%refresh == 0 || err != nil {
			since = time.Time{}
		}
		if !sleep(ctx, max(interval-now.Sub(begin), 3*now.Sub(begin))) {
			return
		}
	}
}

// follow passes events on. poll tells of a daemon that does not answer.
func follow(ctx context.Context, client *control.Client, send func(tea.Msg)) {
	for {
		events := make(chan control.Event)
		var gathering sync.WaitGroup
		gathering.Go(func() { gatherEvents(events, send) })
		if changes, err := client.Subscribe(ctx); err == nil {
			for e, err := changes.Next(); err == nil; e, err = changes.Next() {
				events <- e
			}
			changes.Close()
		}
		close(events)
		gathering.Wait()
		if !sleep(ctx, interval) {
			return
		}
	}
}

// gatherEvents sends what comes within a short time as one message.
func gatherEvents(events <-chan control.Event, send func(tea.Msg)) {
	for e := range events {
		gathered := eventsMsg{e}
		for timer := time.After(gather); timer != nil; {
			select {
			case <-timer:
				timer = nil
			case e, ok := <-events:
				if !ok {
					timer = nil
					break
				}
				gathered = append(gathered, e)
			}
		}
		send(gathered)
	}
}

func sleep(ctx context.Context, d time.Duration) (slept bool) {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// doneMsg is what became of a request.
type doneMsg struct {
	verb   string
	result control.Result
	err    error
}

// action asks the daemon to do something with a peer.
type action func(verb, key string) tea.Cmd

func actions(ctx context.Context, client *control.Client) action {
	do := map[string]func(context.Context, []string) ([]control.Result, error){
		"wake": client.Wake, "sleep": client.Sleep, "exclude": client.Exclude, "include": client.Include,
	}
	return func(verb, key string) tea.Cmd {
		return func() tea.Msg {
			results, err := do[verb](ctx, []string{key})
			msg := doneMsg{verb: verb, err: err}
			if len(results) > 0 {
				msg.result = results[0]
			}
			return msg
		}
	}
}
