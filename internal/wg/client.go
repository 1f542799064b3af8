// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"errors"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// client is what of wgctrl is used.
type client interface {
	Device(name string) (*wgtypes.Device, error)
	ConfigureDevice(name string, config wgtypes.Config) error
	Close() error
}

// boundClient is a client for one interface. wgctrl goes by name alone, and
// wg-quick down and up make another interface of the same name, which nobody
// watches and which has its own configuration: for boundClient there is none.
type boundClient struct {
	client
	links *netlink.Handle
	index int // of the interface; the kernel gives it to no other
	kind  wgtypes.DeviceType
}

// findLink finds an interface in the calling thread's network namespace. Error:
// os.ErrNotExist.
func findLink(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	return link, notExist(err)
}

// newClient binds a client to an interface of the calling thread's network
// namespace.
func newClient(index int, kind wgtypes.DeviceType, patience *patience) (client, error) {
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	c, err := wgctrl.New()
	if err != nil {
		links.Close()
		return nil, err
	}
	bound := boundClient{c, links, index, kind}
	if kind != wgtypes.LinuxKernel {
		bound.client = patientClient{c, patience}
	}
	return bound, nil
}

func (c boundClient) Device(name string) (*wgtypes.Device, error) {
	name, err := c.nameNow(name)
	if err != nil {
		return nil, err
	}
	return c.client.Device(name)
}

func (c boundClient) ConfigureDevice(name string, config wgtypes.Config) error {
	name, err := c.nameNow(name)
	if err != nil {
		return err
	}
	return c.client.ConfigureDevice(name, config)
}

// nameNow is the name by which wgctrl finds the interface, which had another when
// it was found. Error: os.ErrNotExist if the interface is gone.
func (c boundClient) nameNow(before string) (string, error) {
	link, err := c.links.LinkByIndex(c.index)
	if err != nil {
		return "", notExist(err)
	}
	name := link.Attrs().Name
	if name == before || c.kind == wgtypes.LinuxKernel {
		return name, nil
	}
	// The socket of wireguard-go stays where it was, until it gives way to that of
	// another interface of the name.
	switch _, err := c.links.LinkByName(before); {
	case err == nil:
		return "", os.ErrNotExist
	case !errors.Is(notExist(err), os.ErrNotExist):
		return "", err
	}
	return before, nil
}

// notExist is what the os package says of an interface that is not there.
func notExist(err error) error {
	if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
		return os.ErrNotExist
	}
	return err
}

func (c boundClient) Close() error {
	c.links.Close()
	return c.client.Close()
}
