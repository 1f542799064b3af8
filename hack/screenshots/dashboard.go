// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// day is how long the dashboard's daemon and Prometheus run.
const day = 4 * time.Minute

// dashboardPicture draws packaging/grafana as it looks after a short day of a daemon. It fails if a query finds nothing: then
// the dashboard asks for what there is not, or the day has too little in it.
func dashboardPicture(lazybpf, dir string) (err error) {
	board, err := readDashboard("packaging/grafana/lazybpf.json")
	if err != nil {
		return err
	}
	h, err := newHub()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	config, err := os.CreateTemp("", "lazybpf*.toml")
	if err != nil {
		return err
	}
	defer os.Remove(config.Name())
	if _, err := config.WriteString(h.policy()); err != nil {
		return err
	}
	stop, err := h.manage(lazybpf, "--config", config.Name(), "--inactivity-threshold", "8s", "--metrics-listen", exporter)
	if err != nil {
		return err
	}
	defer stop()
	p, err := startPrometheus(h.ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := h.spend(day); err != nil {
		return err
	}
	now := time.Now().Truncate(time.Second)
	return board.draw(h.ctx, p, now.Add(-day), now, filepath.Join(dir, "dashboard.svg"))
}
