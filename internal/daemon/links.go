// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// links knows the network interfaces of a network namespace: that of the thread
// that has made it.
type links struct {
	// changed has an element after some interface came, changed or went. The
	// kernel may be too busy to tell: nothing may depend on it.
	changed chan struct{}

	handle  *netlink.Handle
	news    *nl.NetlinkSocket
	closing chan struct{}
	ended   chan struct{}
}

func openLinks() (*links, error) {
	l := &links{changed: make(chan struct{}, 1), closing: make(chan struct{}), ended: make(chan struct{})}
	var err error
	if l.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	// Not by netlink.LinkSubscribe, which ends when the kernel has lost a message.
	if l.news, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK); err != nil {
		l.handle.Close()
		return nil, fmt.Errorf("follow network interfaces: %w", err)
	}
	go l.listen()
	return l, nil
}

func (l *links) listen() {
	defer close(l.ended)
	for {
		_, _, err := l.news.Receive()
		select {
		case <-l.closing:
			return
		case l.changed <- struct{}{}:
		default:
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) { // which says that messages were lost
			return
		}
	}
}

// index returns the index of an interface, which no other ever gets, or 0 if
// there is none of this name.
func (l *links) index(name string) (int, error) {
	link, err := l.handle.LinkByName(name)
	if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", name, err)
	}
	return link.Attrs().Index, nil
}

func (l *links) close() {
	close(l.closing)
	l.news.Close()
	<-l.ended
	l.handle.Close()
}
