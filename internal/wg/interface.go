// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// interfaceID tells an interface of the calling thread's network namespace from
// all others, of its name and index, too: in another namespace, or after a
// reboot. What a daemon has noted of one interface means nothing to another.
func interfaceID(index int) (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	namespace, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil && !errors.Is(err, unix.ENOPROTOOPT) { // before Linux 5.14, where lazybpf does not run
		return "", os.NewSyscallError("getsockopt SO_NETNS_COOKIE", err)
	}
	return fmt.Sprintf("%s/%d/%d", strings.TrimSpace(string(boot)), namespace, index), nil
}

// neighbour is the name of the interface with an ID, where it is another than our
// own of the same network namespace; empty: there is none.
func neighbour(id, own string) string {
	index, near := strings.CutPrefix(id, own[:strings.LastIndexByte(own, '/')+1])
	number, err := strconv.Atoi(index)
	if !near || err != nil || id == own {
		return ""
	}
	link, err := net.InterfaceByIndex(number)
	if err != nil {
		return ""
	}
	return link.Name
}
