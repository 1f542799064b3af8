// SPDX-License-Identifier: Apache-2.0

package lazy

import (
	"strings"
	"testing"
	"time"
)

// machine is the whole state machine: for each state and input the state that
// follows and what to do, or a dash where nothing happens. A peer is needed that
// is permanent, or of whose group another member is active; a silent one has
// reached its threshold. A peer that is gone takes no notice of anything.
const machine = `
                        packet          request         mate            opened           openFailed  deadline         sleep     exclude          include          lost             found
gone                    -               -               -               -                -           -                -         -                -                -                -
idle                    connecting:open connecting:open connecting:open idle:park        -           idle:evict       -         connecting:open  -                -                connecting:open
idle,backing-off        -               connecting:open -               idle:park        -           idle:rearm       -         connecting:open  -                -                connecting:open
idle,needed             connecting:open connecting:open connecting:open connected:settle -           connecting:open  -         connecting:open  -                -                connecting:open
idle,needed,backing-off -               connecting:open -               connected:settle -           connecting:open  -         connecting:open  -                -                connecting:open
connecting              -               -               -               connected:settle idle:giveUp -                -         -                -                -                -
connecting,needed       -               -               -               connected:settle idle:giveUp -                -         -                -                -                -
connecting,lost         -               -               -               connected:settle idle:giveUp idle:park        idle:park connecting:watch connecting:watch -                connected:resume
connecting,lost,needed  -               -               -               connected:settle idle:giveUp connecting:watch -         connecting:watch connecting:watch -                connected:resume
connected               -               -               -               -                -           connected:watch  idle:park connected:watch  connected:watch  connecting:await -
connected,silent        -               -               -               -                -           idle:park        idle:park connected:watch  connected:watch  connecting:await -
connected,needed        -               -               -               -                -           connected:watch  -         connected:watch  connected:watch  connecting:await -
connected,needed,silent -               -               -               -                -           connected:watch  -         connected:watch  connected:watch  connecting:await -
`

var (
	inputNames  = strings.Fields("packet request mate opened openFailed deadline sleep exclude include lost found")
	actionNames = strings.Fields("nothing open settle watch park giveUp rearm await resume evict")
)

func TestDecide(t *testing.T) {
	table := parseMachine(t)
	now := time.Now()
	seen := make(map[string]bool)
	for _, v := range views(now) {
		row := describe(v, now)
		seen[row] = true
		for in, name := range inputNames {
			want, ok := table[row][name]
			if !ok {
				t.Fatalf("the table has no entry for %s, %s", row, name)
			}
			state, do := decide(v, input(in), now)
			got := state.String() + ":" + actionNames[do]
			if state == v.state && do == nothing {
				got = "-"
			}
			if got != want {
				t.Errorf("%s, %s: %s, want %s", row, name, got, want)
			}
		}
	}
	for row := range table {
		if !seen[row] {
			t.Errorf("no view is described as %s", row)
		}
	}
}

// views are all that a decision may depend on.
func views(now time.Time) []view {
	var all []view
	for _, state := range []State{0, Idle, Connecting, Connected} {
		for bits := range 16 {
			for _, idleAt := range []time.Time{now.Add(1), now, now.Add(-1)} {
				all = append(all, view{state, bits&1 != 0, bits&2 != 0, bits&4 != 0, bits&8 != 0, idleAt})
			}
		}
	}
	return all
}

// describe names the row of a view: by what matters in its state.
func describe(v view, now time.Time) string {
	if v.state == 0 {
		return "gone"
	}
	row := v.state.String()
	if v.state == Connecting && v.lost {
		row += ",lost"
	}
	if v.permanent || v.mates {
		row += ",needed"
	}
	if v.state == Idle && v.backingOff {
		row += ",backing-off"
	}
	if v.state == Connected && !now.Before(v.idleAt) {
		row += ",silent"
	}
	return row
}

// parseMachine returns the table by row and column.
func parseMachine(t *testing.T) map[string]map[string]string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(machine), "\n")
	header := strings.Fields(lines[0])
	table := make(map[string]map[string]string)
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		if len(cells) != len(header)+1 {
			t.Fatalf("%d cells under %d headers: %s", len(cells)-1, len(header), line)
		}
		row := make(map[string]string)
		for i, column := range header {
			row[column] = cells[i+1]
		}
		table[cells[0]] = row
	}
	return table
}
