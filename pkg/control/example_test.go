// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/lazybpf/lazybpf/pkg/control"
)

// Who is connected, and why?
func ExampleClient_Status() {
	client := control.NewClient(control.Path("wg0"))
	status, err := client.Status(context.Background(), control.Filter{Kinds: []string{control.StateConnected}})
	switch {
	case errors.Is(err, control.ErrNotRunning):
		fmt.Println("nobody manages wg0")
	case err != nil:
		log.Fatal(err)
	}
	for _, p := range status.Peers {
		fmt.Println(p.PublicKey, "sleeps in", p.IdleIn)
		if p.LastWake != nil {
			fmt.Println("woken by", p.LastWake.Reason, p.LastWake.Flow)
		}
	}
}

// Many peers are looked at every second: only those that may have changed.
func ExampleFilter() {
	client := control.NewClient(control.Path("wg0"))
	var since time.Time // at first, all
	for {
		begin := time.Now()
		status, err := client.Status(context.Background(), control.Filter{Since: since})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(len(status.Peers), "peers may have changed")
		since = begin.Add(-50 * time.Millisecond)
		time.Sleep(time.Second)
	}
}

// A peer is woken before a job that needs it.
func ExampleClient_Wake() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := control.NewClient(control.Path("wg0"))
	results, err := client.Wake(ctx, []string{"10.0.0.2"})
	switch {
	case errors.Is(err, control.ErrForbidden):
		fmt.Println("root may")
	case err != nil:
		log.Fatal(err)
	}
	for _, r := range results {
		fmt.Println(r.Peer, r.State, r.Took, r.Error)
	}
}

// What happens on the interface, until the daemon ends.
func ExampleClient_Subscribe() {
	follow := func(ctx context.Context) error {
		client := control.NewClient(control.Path("wg0"))
		changes, err := client.Subscribe(ctx)
		if err != nil {
			return err // errors.Is(err, control.ErrNotRunning), control.ErrForbidden, …
		}
		defer changes.Close()
		results, err := client.Wake(ctx, []string{"office"})
		if err != nil {
			return err
		}
		fmt.Println(results)
		for e, err := changes.Next(); err == nil; e, err = changes.Next() {
			fmt.Println(e.PublicKey, e.From, "->", e.To, e.Reason)
		}
		return nil
	}
	if err := follow(context.Background()); err != nil {
		log.Print(err)
	}
}
