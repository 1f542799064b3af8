// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lazybpf/lazybpf/pkg/control"
)

// right is what a request takes.
type right int

const (
	reads right = iota // root, or a member of the group
	acts               // root
)

// client is who has connected, as the kernel says: the effective IDs that the
// process had at that time.
type client struct {
	unix.Ucred
	groups []uint32 // all of them
	err    error    // why that is not known
}

// clientOf asks the kernel who is at the other end.
func clientOf(conn net.Conn) (c client) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return client{err: errors.New("not a socket")}
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return client{err: err}
	}
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			c.err = err
			return
		}
		c.Ucred = *cred
		c.groups, c.err = peerGroups(fd)
		c.groups = append(c.groups, cred.Gid)
	})
	c.err = errors.Join(c.err, err)
	return c
}

// peerGroups are the supplementary groups.
func peerGroups(fd uintptr) ([]uint32, error) {
	for groups := make([]uint32, 64); ; {
		const width = uint32(unsafe.Sizeof(groups[0]))
		size := uint32(len(groups)) * width
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/width], nil
		case errno == unix.ERANGE && int(size/width) > len(groups): // size is what it takes
			groups = make([]uint32, size/width)
		default:
			return nil, errno
		}
	}
}

// may returns nil, or an error that says who may not do what, and what it takes.
func (c client) may(r right, readers Group) error {
	reader := readers != (Group{}) && slices.Contains(c.groups, readers.ID)
	switch {
	case c.err != nil:
		return fmt.Errorf("%w: the kernel does not say who asks: %w", control.ErrForbidden, c.err)
	case c.root(), reader && r == reads:
		return nil
	case reader:
		return fmt.Errorf("%w: user %d may only look: the rest takes root", control.ErrForbidden, c.Uid)
	case readers == Group{}:
		return fmt.Errorf("%w: user %d may not ask: it takes root", control.ErrForbidden, c.Uid)
	}
	return fmt.Errorf("%w: user %d may not ask: it takes root, or for looking only, a member of group %s",
		control.ErrForbidden, c.Uid, readers)
}

type clientKey struct{}

// withClient is an [http.Server.ConnContext], for the connections of a crowd.
func withClient(ctx context.Context, conn net.Conn) context.Context {
	if v, ok := conn.(*visit); ok {
		ctx = context.WithValue(ctx, clientKey{}, v.client)
	}
	return ctx
}

// guard lets those through who have the right.
func (s *Server) guard(r right, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c, known := req.Context().Value(clientKey{}).(client)
		if !known {
			c.err = errors.New("no connection")
		}
		if err := c.may(r, s.Readers); err != nil {
			s.refuse(c, err)
			writeError(w, req, err)
			return
		}
		next.ServeHTTP(w, req)
	})
}

// refuse logs a refusal.
func (s *Server) refuse(c client, err error) {
	if s.refused.due(c.Uid) {
		s.Log.WithError(err).WithField("pid", c.Pid).Warn("request refused")
	}
}

// quiet is how long nothing is logged of a user after something was.
const quiet = time.Minute

// refusals are when a refused request was logged of each user.
type refusals struct {
	mu   sync.Mutex
	last map[uint32]time.Time
}

// due says whether to log one now.
func (r *refusals) due(uid uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for other, at := range r.last {
		if now.Sub(at) >= quiet {
			delete(r.last, other)
		}
	}
	if _, ok := r.last[uid]; ok {
		return false
	}
	if r.last == nil {
		r.last = make(map[uint32]time.Time)
	}
	r.last[uid] = now
	return true
}
