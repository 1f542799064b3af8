// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"io"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/lazybpf/lazybpf/internal/lab"
)

// intercept comes between everybody and the wireguard-go of Here, for the length of a test: for each reading and each
// configuration admit says whether it may be, and may take its time.
func intercept(t *testing.T, n *lab.Network, admit func() bool) {
	t.Helper()
	path, moved := "/var/run/wireguard/"+n.Here.Name+".sock", "/var/run/"+n.Here.Name+".moved"
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer client.Close()
				if admit() {
					if err := forward(client, moved); err != nil {
						t.Error(err)
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
		if err := os.Rename(moved, path); err != nil {
			t.Error(err)
		}
	})
}

// forward passes on what either side says, until one of them ends.
func forward(client net.Conn, to string) error {
	server, err := net.Dial("unix", to)
	if err != nil {
		return err
	}
	var answering sync.WaitGroup
	answering.Go(func() {
		_, _ = io.Copy(client, server)
		client.Close()
	})
	_, _ = io.Copy(server, client)
	err = server.Close()
	answering.Wait()
	return err
}

// stall makes Here's wireguard-go answer nobody until it is released, at the latest at the end of the test.
func stall(t *testing.T, n *lab.Network) (release func()) {
	t.Helper()
	released := make(chan struct{})
	release = sync.OnceFunc(func() { close(released) })
	intercept(t, n, func() bool { <-released; return true })
	t.Cleanup(release)
	return release
}
