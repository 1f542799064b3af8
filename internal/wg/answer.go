// SPDX-License-Identifier: Apache-2.0

package wg

import (
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// AnswerTime is how long a wireguard-go has to answer, unless OpenWithin says
// otherwise.
const AnswerTime = time.Minute

// chunk is how many peers a wireguard-go gets in one message: it took 17 s for
// 10,000 new ones, beside 10,000 others. And a chunk fits into its socket, unless
// peers have a great many allowed IPs: if we end before it is read, wireguard-go
// reads all of it later, and not the first digit of a keepalive.
const chunk = 250

// patience is how long to wait for a wireguard-go. One that is stopped or hangs
// answers nobody, and its socket tells no difference to one that takes its time.
type patience struct {
	answer    time.Duration // that it has to answer
	reading   atomic.Int64  // how long the last reading took; 0: there was none
	abandoned atomic.Int32  // calls that nobody waits for any more
}

// limit is how long a call may take that changes something. It may have to wait
// for a reading, ours or that of others.
func (p *patience) limit() time.Duration {
	return p.answer + 3*time.Duration(p.reading.Load())
}

// readingLimit is how long a reading may take. Before the first nobody knows how
// many peers there are.
func (p *patience) readingLimit() time.Duration {
	if p.reading.Load() == 0 {
		return 10 * p.answer
	}
	return p.limit()
}

// await waits for a call within a limit. One that is not back by then is abandoned:
// it goes on, and until it has returned all others fail at once. So neither they nor
// their sockets pile up, and what it does late is never later than what is asked
// after it. Error: ErrNoAnswer.
func (p *patience) await(limit time.Duration, call func() error) error {
	if p.abandoned.Load() > 0 {
		return ErrNoAnswer
	}
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = call()
	}()
	select {
	case <-done:
		return err
	case <-time.After(limit):
	}
	p.abandoned.Add(1)
	go func() {
		<-done
		p.abandoned.Add(-1)
	}()
	return ErrNoAnswer
}

// patientClient is a client of a wireguard-go. The kernel needs no patience.
type patientClient struct {
	client
	*patience
}

func (c patientClient) Device(name string) (*wgtypes.Device, error) {
	var device *wgtypes.Device
	err := c.await(c.readingLimit(), func() error {
		begin := time.Now()
		read, err := c.client.Device(name)
		if err == nil { // also if nobody waits any more: the next may take as long
			c.reading.Store(int64(max(time.Since(begin), 1)))
		}
		device = read
		return err
	})
	if err != nil {
		return nil, err // and device may be written yet
	}
	return device, nil
}

// ConfigureDevice changes peers, and nothing else.
func (c patientClient) ConfigureDevice(name string, config wgtypes.Config) error {
	for peers := config.Peers; ; {
		n := min(chunk, len(peers))
		part := wgtypes.Config{Peers: peers[:n]}
		err := c.await(c.limit(), func() error { return c.client.ConfigureDevice(name, part) })
		if peers = peers[n:]; err != nil || len(peers) == 0 {
			return err
		}
	}
}
