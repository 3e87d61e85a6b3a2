package soak

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Several processes work on the same few servers at once. What every call answered must be what it would have answered
// had they come one after the other, each between its begin and its end.
func TestConcurrentHistoriesAreLinearizable(t *testing.T) {
	onEngines(t, func(t *testing.T, d database) {
		const processes, callers, calls = 3, 4, 8
		var made, refused, histories, overlaps int
		r := newRun(t, 15, func() string {
			return fmt.Sprintf("%d calls (%d refused, %d pairs at the same time) in %d histories of %d processes",
				made, refused, overlaps, histories, processes)
		})
		l := d.ledger(t)
		var ps [processes]*historyProcess
		for i := range ps {
			ps[i] = startHistory(t, historyConfig{Database: d, Seed: r.Uint64(), Worker: i, Callers: callers})
		}
		last, day := int64(0), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		for r.next() {
			// Each round is a day later, so that its first FailOverdue and Expire also end what the round before left.
			round := historyRound{After: last, Calls: calls, At: day.AddDate(0, 0, r.rounds)}
			for i := range 2 + r.IntN(2) {
				server := fmt.Sprintf("round-%d-%d", r.rounds, i)
				round.Servers = append(round.Servers, server)
				if err := l.AddServer(t.Context(), server); err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range ps {
				p.begin(t, round)
			}
			var all []recorded
			for _, p := range ps {
				all = append(all, p.end(t)...)
			}
			made += len(all)
			owners := map[int64]string{}
			for _, c := range all {
				if c.Answer.Err != "" {
					refused++
				}
				if c.Method == "Create" && len(c.Answer.Actions) == 1 {
					a := c.Answer.Actions[0]
					if other, taken := owners[a.ID]; taken && (other != a.ServerID || a.IdempotencyKey == nil) {
						t.Errorf("id %d was given to an action of %s, and to one of %s", a.ID, other, a.ServerID)
					}
					owners[a.ID] = a.ServerID
					last = max(last, a.ID)
				}
			}
			// What is there in the end belongs to the history as well.
			for id := range owners {
				c := recorded{call: call{Method: "Get", ID: id}, Caller: processes * callers, Begin: monotonic()}
				c.Answer = c.make(t.Context(), l)
				c.End = monotonic()
				all = append(all, c)
			}
			for server, history := range byServer(t, all, round.Servers, owners) {
				histories++
				overlaps += markOverlaps(history, d.isPostgres())
				checkLinearizable(t, server, history, !d.isPostgres())
			}
		}
	})
}

// historyProcess is a worker that makes concurrent calls.
type historyProcess struct {
	*process
	rounds *json.Encoder
	calls  *json.Decoder
}

func startHistory(t *testing.T, config historyConfig) *historyProcess {
	p := start(t, "concurrent calls", config)
	return &historyProcess{p, json.NewEncoder(p.stop), json.NewDecoder(p.out)}
}

func (p *historyProcess) begin(t *testing.T, round historyRound) {
	if err := p.rounds.Encode(round); err != nil {
		t.Fatalf("begin a round: %v: %s", err, &p.stderr)
	}
}

func (p *historyProcess) end(t *testing.T) (calls []recorded) {
	if err := p.calls.Decode(&calls); err != nil {
		t.Fatalf("read what was called: %v: %s", err, &p.stderr)
	}
	return calls
}

// byServer gives each server its own history. FailOverdue and Expire are about every server, and are in each history with
// their part.
func byServer(t *testing.T, all []recorded, servers []string, owners map[int64]string) map[string][]recorded {
	histories := map[string][]recorded{}
	for _, c := range all {
		switch c.Method {
		case "FailOverdue", "Expire":
			ended := c.Answer.Actions
			if len(ended) == sweepLimit {
				t.Fatalf("%s met its limit of %d", c.Method, sweepLimit)
			}
			for _, server := range servers {
				c.Answer.Actions = nil
				for _, a := range ended {
					if a.ServerID == server {
						c.Answer.Actions = append(c.Answer.Actions, a)
					}
				}
				histories[server] = append(histories[server], c)
			}
		case "Create":
			histories[c.New.ServerID] = append(histories[c.New.ServerID], c)
		case "Claim", "Pause", "Unpause":
			histories[c.Server] = append(histories[c.Server], c)
		default:
			owner, ok := owners[c.ID]
			if !ok && c.Answer.Err != remediation.ErrNotFound.Error() {
				t.Errorf("nobody created the action of %s", c)
			}
			histories[owner] = append(histories[owner], c)
		}
	}
	delete(histories, "")
	return histories
}

// markOverlaps counts the pairs of calls that were made at the same time. On PostgreSQL they also decide what Claim,
// FailOverdue and Expire may leave out: they choose in a snapshot that is older than their commit, and pass over rows that
// others have locked. So none of them is linearizable there, and the model lets them leave out what a call at the same time
// was about, whether it was refused or not: one that waited for another's lock holds it for a moment before it gives up.
// They may also have locked what they saw and then found changed: a Claim that meets a Pause has locked an action that
// "auto" approved. All else about them is as strict as on SQLite: what they take was there to take, at one moment.
func markOverlaps(history []recorded, skipLocked bool) (pairs int) {
	at := make([][]int, len(history))
	for i, c := range history {
		for j, o := range history {
			if i != j && c.Begin <= o.End && o.Begin <= c.End {
				at[i] = append(at[i], j)
			}
		}
		pairs += len(at[i])
	}
	if !skipLocked {
		return pairs / 2
	}
	locked, lockedAuto := make([][]int64, len(history)), make([]bool, len(history))
	for i, c := range history {
		locked[i] = actionIDs(c.call)
		if chooses(c.Method) {
			for _, j := range at[i] {
				locked[i] = append(locked[i], actionIDs(history[j].call)...)
				lockedAuto[i] = lockedAuto[i] || c.Method == "Claim" && history[j].Method == "Pause"
			}
		}
	}
	for i := range history {
		c := &history[i]
		if !chooses(c.Method) {
			continue
		}
		c.skippable = map[int64]bool{}
		for _, j := range at[i] {
			c.skippableAuto = c.skippableAuto || c.Method == "Claim" && history[j].Method == "Unpause" || lockedAuto[j]
			for _, id := range locked[j] {
				c.skippable[id] = true
			}
		}
	}
	return pairs / 2
}

// chooses reports whether a call takes actions that its caller does not name.
func chooses(method string) bool {
	return method == "Claim" || method == "FailOverdue" || method == "Expire"
}

// about is the actions that a call may have written or locked.
func actionIDs(c call) []int64 {
	if c.Method == "Get" {
		return nil
	}
	ids := []int64{c.ID}
	for _, a := range c.Answer.Actions {
		ids = append(ids, a.ID)
	}
	return ids
}

func checkLinearizable(t *testing.T, server string, history []recorded, risingIDs bool) {
	model := porcupine.Model{
		Init: func() any { return modelState{servers: map[string]mode{server: {}}, risingIDs: risingIDs} },
		Step: func(state, input, output any) (bool, any) {
			c := input.(call)
			c.Answer = output.(answer)
			next, want := state.(modelState).apply(c)
			return reflect.DeepEqual(want, c.Answer), next // unlike cmp it tells UTC from another zone
		},
		Equal:             func(a, b any) bool { return reflect.DeepEqual(a, b) },
		DescribeOperation: func(input, _ any) string { return input.(call).String() },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
	operations := make([]porcupine.Operation, len(history))
	for i, c := range history {
		operations[i] = porcupine.Operation{ClientId: c.Caller, Input: c.call, Call: c.Begin, Output: c.Answer, Return: c.End}
	}
	const timeout = time.Minute
	result := porcupine.CheckOperationsTimeout(model, operations, timeout)
	if result == porcupine.Ok {
		return
	}
	_, info := porcupine.CheckOperationsVerbose(model, operations, timeout)
	path := filepath.Join(os.TempDir(), fmt.Sprintf("history-%s-%d.html", server, os.Getpid()))
	if err := porcupine.VisualizePath(model, info, path); err != nil {
		t.Error(err)
	}
	slices.SortFunc(history, func(a, b recorded) int { return int(a.Begin - b.Begin) })
	var lines strings.Builder
	for _, c := range history {
		fmt.Fprintf(&lines, "%d to %d, caller %d: %s\n", c.Begin-history[0].Begin, c.End-history[0].Begin, c.Caller, c)
	}
	t.Errorf("linearizable: %s. Drawn in %s. The history, in nanoseconds:\n%s", result, path, &lines)
}
