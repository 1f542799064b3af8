// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/lazybpf/lazybpf/pkg/control"
)

// maxConnections is how many connections a user may have at once who is not root:
// each takes memory, and those of all users come out of one limit of open files.
const maxConnections = 32

// crowd is a listener that closes the connections which a user has too many of. It
// says who is at the other end of the others: they are visits.
type crowd struct {
	net.Listener
	refuse func(client, error) // hears of those that were closed

	mu   sync.Mutex // guards open
	open map[uint32]int
}

// visit is a connection of a known client.
type visit struct {
	net.Conn
	client client
	leave  func()
}

func (v *visit) Close() error {
	v.leave()
	return v.Conn.Close()
}

func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who := clientOf(conn)
		if who.root() {
			return &visit{conn, who, func() {}}, nil
		}
		if c.enter(who.Uid) {
			return &visit{conn, who, sync.OnceFunc(func() { c.leave(who.Uid) })}, nil
		}
		_ = conn.Close()
		c.refuse(who, fmt.Errorf("%w: user %d has %d connections already", control.ErrForbidden, who.Uid, maxConnections))
	}
}

func (c *crowd) enter(uid uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[uid] == maxConnections {
		return false
	}
	c.open[uid]++
	return true
}

func (c *crowd) leave(uid uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[uid]--; c.open[uid] == 0 {
		delete(c.open, uid)
	}
}

// root says whether the client is root or the daemon's own user.
func (c client) root() bool { return c.err == nil && (c.Uid == 0 || int(c.Uid) == os.Geteuid()) }
