// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

const (
	exporter      = "127.0.0.1:9586"
	prometheusAt  = "127.0.0.1:9090"
	configuration = `scrape_configs:
  - job_name: lazybpf
    scrape_interval: 1s
    static_configs: [{targets: ["` + exporter + `"]}]
`
)

// prometheus is one that runs, and scrapes the exporter.
type prometheus struct {
	cmd *exec.Cmd
	dir string
}

func startPrometheus(ctx context.Context) (*prometheus, error) {
	dir, err := os.MkdirTemp("", "lazybpf-prometheus")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "prometheus.yml")
	p := &prometheus{dir: dir, cmd: exec.Command("prometheus", "--config.file", config, "--storage.tsdb.path", dir,
		"--web.listen-address", prometheusAt, "--log.level", "warn")}
	p.cmd.Stderr = os.Stderr
	err = os.WriteFile(config, []byte(configuration), 0o600)
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: the dashboard's picture takes Prometheus: apt install prometheus", err), os.RemoveAll(dir))
	}
	err = await(ctx, func() error {
		_, err := p.query(ctx, "up == 1", time.Time{}, time.Now(), 0)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *prometheus) close() error {
	_ = p.cmd.Process.Signal(os.Interrupt)
	return errors.Join(p.cmd.Wait(), os.RemoveAll(p.dir))
}

// series is one that Prometheus has answered with.
type series struct {
	labels map[string]string
	times  []time.Time
	values []float64
}

// sample is [seconds, "value"] in JSON.
type sample struct{ at, value float64 }

func (s *sample) UnmarshalJSON(text []byte) error {
	var value string
	if err := json.Unmarshal(text, &[]any{&s.at, &value}); err != nil {
		return err
	}
	var err error
	s.value, err = strconv.ParseFloat(value, 64)
	return err
}

// ask asks the HTTP API, and has its answer in data.
func (p *prometheus) ask(ctx context.Context, path string, values url.Values, data any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+prometheusAt+"/api/v1/"+path+"?"+values.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct {
		Error string
		Data  any
	}{Data: data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("prometheus: %s: %w", response.Status, err)
	}
	if answer.Error != "" {
		return fmt.Errorf("prometheus: %s", answer.Error)
	}
	return nil
}

func (p *prometheus) labelValues(ctx context.Context, label, match string) (values []string, err error) {
	err = p.ask(ctx, "label/"+label+"/values", url.Values{"match[]": {match}}, &values)
	return values, err
}

// query evaluates an expression at the end of a range, and with steps, all through it. No value at all is an error.
func (p *prometheus) query(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]series, error) {
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  *sample
			Values []sample
		}
	}
	seconds := func(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
	path, values := "query", url.Values{"query": {expr}, "time": {seconds(to)}}
	if step > 0 {
		path, values = "query_range", url.Values{"query": {expr}, "start": {seconds(from)}, "end": {seconds(to)}, "step": {step.String()}}
	}
	if err := p.ask(ctx, path, values, &data); err != nil {
		return nil, fmt.Errorf("%w: %s", err, expr)
	}
	var all []series
	some := false
	for _, r := range data.Result {
		if r.Value != nil {
			r.Values = append(r.Values, *r.Value)
		}
		s := series{labels: r.Metric}
		for _, v := range r.Values {
			s.times = append(s.times, time.Unix(0, int64(v.at*1e9)))
			s.values = append(s.values, v.value)
			some = some || !math.IsNaN(v.value)
		}
		all = append(all, s)
	}
	if !some {
		return nil, fmt.Errorf("prometheus has nothing for %s", expr)
	}
	return all, nil
}
