// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// furnish turns the new namespaces of this process into a lab.
func furnish() error {
	// First of all: what is mounted from here on must not appear outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make / private: %w", err)
	}
	// Sockets live in /run/lazybpf and /var/run/wireguard, by interface name.
	if err := mount("tmpfs", "/run"); err != nil {
		return err
	}
	if target, err := filepath.EvalSymlinks("/var/run"); err != nil || target != "/run" {
		if err := mount("tmpfs", "/var/run"); err != nil {
			return err
		}
	}
	if err := mount("bpf", "/sys/fs/bpf"); err != nil {
		return err
	}
	if err := linkUp("lo"); err != nil {
		return err
	}
	// Or a socket that takes any port may have that of a network to come.
	ports := fmt.Sprintf("%d-%d", firstPort+1, firstPort+maxNumber)
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_reserved_ports", []byte(ports), 0); err != nil {
		return fmt.Errorf("reserve ports: %w", err)
	}

	own, err := mountNamespace(os.Getpid())
	if err != nil {
		return err
	}
	return os.Setenv(marker, own)
}

func mount(fstype, dir string) error {
	if err := unix.Mount(fstype, dir, fstype, unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", fstype, dir, err)
	}
	return nil
}
