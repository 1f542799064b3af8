// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// uapiDir is where wgctrl and wg(8) look for userspace WireGuard.
const uapiDir = "/var/run/wireguard"

// userspace is wireguard-go in this process, with the socket that configures it.
type userspace struct {
	device *device.Device
	uapi   net.Listener

	hangUp  context.CancelFunc // ends the connections to uapi
	serving sync.WaitGroup
}

// newUserspace runs the host's WireGuard interface, which is up when it returns. It calls early, if there is one, while the
// interface has no socket yet.
func newUserspace(h *Host, early func()) (*userspace, error) {
	if err := os.MkdirAll(uapiDir, 0o755); err != nil {
		return nil, err
	}
	dev, err := newDevice(h)
	if err != nil {
		return nil, err
	}
	if early != nil {
		early()
	}
	uapi, err := net.Listen("unix", filepath.Join(uapiDir, h.Name+".sock"))
	if err != nil {
		dev.Close()
		return nil, err
	}

	ctx, cancel := context.WithCancel(context.Background())
	u := &userspace{device: dev, uapi: uapi, hangUp: cancel}
	u.serving.Go(func() { u.serve(ctx) })
	return u, nil
}

// Close removes the interface and the socket, and waits for what served them.
func (u *userspace) Close() error {
	err := u.uapi.Close()
	u.hangUp()
	u.serving.Wait()
	u.device.Close()
	return err
}

func (u *userspace) serve(ctx context.Context) {
	for {
		client, err := u.uapi.Accept()
		if err != nil {
			return
		}
		u.serving.Go(func() {
			stop := context.AfterFunc(ctx, func() { client.Close() })
			defer stop()
			u.device.IpcHandle(client)
		})
	}
}

func newDevice(h *Host) (*device.Device, error) {
	var dev *device.Device
	err := h.Do(func() error {
		t, err := newTUN(h)
		if err != nil {
			return err
		}
		bind := hostBind{conn.NewStdNetBind(), h}
		dev = device.NewDevice(hostTUN{t, h}, bind, device.NewLogger(device.LogLevelSilent, ""))
		// The TUN device would report that it is up, but only in its own time.
		if err := dev.Up(); err != nil {
			dev.Close()
			return err
		}
		return nil
	})
	return dev, err
}

// newTUN brings the interface up before wireguard-go sees it. A wireguard-go that has seen it down may hear of that after it
// heard that it is up, and then it is down until it looks again, a second later.
func newTUN(h *Host) (tun.Device, error) {
	file, err := openTUN(h.Name)
	if err != nil {
		return nil, fmt.Errorf("open a TUN device: %w", err)
	}
	if err := h.bringUp(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	t, err := tun.CreateTUNFromFile(file, device.DefaultMTU)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return t, nil
}

// openTUN makes a TUN interface that vanishes with the file.
func openTUN(name string) (*os.File, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)

	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// wireguard-go opens sockets whenever its port changes or the interface comes up, on whatever thread it is. The two types
// below bring the calls that do so into the host's namespace.

type hostBind struct {
	conn.Bind
	host *Host
}

func (b hostBind) Open(port uint16) (receive []conn.ReceiveFunc, actual uint16, err error) {
	err = b.host.Do(func() (err error) {
		receive, actual, err = b.Bind.Open(port)
		return err
	})
	return receive, actual, err
}

type hostTUN struct {
	tun.Device
	host *Host
}

func (t hostTUN) MTU() (mtu int, err error) {
	err = t.host.Do(func() (err error) {
		mtu, err = t.Device.MTU()
		return err
	})
	return mtu, err
}
