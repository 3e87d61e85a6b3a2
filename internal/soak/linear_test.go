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

// Several processes call the ledger concurrently about a few servers. The answers must be linearizable: there is an
// order of the calls, each at a moment between its begin and its end, in which a ledger without concurrency gives the
// same answers.
func TestConcurrentHistoriesAreLinearizable(t *testing.T) {
	onEngines(t, func(t *testing.T, d database) {
		const processes, callers, calls = 3, 4, 8
		var made, refused, histories, overlaps int
		r := newRun(t, 15, func() string {
			return fmt.Sprintf("%d calls (%d refused, %d concurrent pairs) in %d histories of %d processes",
				made, refused, overlaps, histories, processes)
		})
		l := d.ledger(t)
		var ps [processes]*historyProcess
		for i := range ps {
			ps[i] = startHistory(t, historyConfig{Database: d, Seed: r.Uint64(), Worker: i, Callers: callers})
		}
		last, day := int64(0), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		for r.next() {
			// Each round is a day later, so that its first FailOverdue and Expire also end open actions of the last
			// round.
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
						t.Errorf("two Creates returned action %d, for server %s and server %s", a.ID, other, a.ServerID)
					}
					owners[a.ID] = a.ServerID
					last = max(last, a.ID)
				}
			}
			// The history ends with a Get of every action, which compares the final rows with the model.
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

// startHistory starts a process that makes concurrent calls.
func startHistory(t *testing.T, config historyConfig) *historyProcess {
	p := start(t, "concurrent calls", config)
	return &historyProcess{p, json.NewEncoder(p.stop), json.NewDecoder(p.out)}
}

// begin sends a round to the process.
func (p *historyProcess) begin(t *testing.T, round historyRound) {
	if err := p.rounds.Encode(round); err != nil {
		t.Fatalf("start a round: %v: %s", err, &p.stderr)
	}
}

// end waits for the calls of the round.
func (p *historyProcess) end(t *testing.T) (calls []recorded) {
	if err := p.calls.Decode(&calls); err != nil {
		t.Fatalf("read the calls of a round: %v: %s", err, &p.stderr)
	}
	return calls
}

// byServer splits the calls into one history for each server. FailOverdue and Expire work on all servers, so they are
// in each history, with the actions of that server.
func byServer(t *testing.T, all []recorded, servers []string, owners map[int64]string) map[string][]recorded {
	histories := map[string][]recorded{}
	for _, c := range all {
		switch c.Method {
		case "FailOverdue", "Expire":
			ended := c.Answer.Actions
			if len(ended) == sweepLimit {
				t.Fatalf("%s reached its limit of %d", c.Method, sweepLimit)
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
				t.Errorf("no recorded Create returned the action of this call: %s", c)
			}
			histories[owner] = append(histories[owner], c)
		}
	}
	delete(histories, "")
	return histories
}

// markOverlaps counts the pairs of concurrent calls. With skipLocked, for PostgreSQL, it also marks the actions that
// Claim, FailOverdue and Expire may skip. They select in a snapshot that is older than their commit, and skip rows that
// other calls have locked. So they are not strictly linearizable there, and the model lets them skip the actions of
// concurrent calls. This includes refused calls: a call that waited for a lock has the lock for a moment before it is
// refused. It also includes rows that a concurrent call locked and then found changed: a Claim concurrent with a Pause
// may have locked an action that "auto" approved. In all else the check is as strict as on SQLite: the actions that
// they take were available at one moment.
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

// chooses reports whether a method selects actions itself, without an ID from its caller.
func chooses(method string) bool {
	return method == "Claim" || method == "FailOverdue" || method == "Expire"
}

// actionIDs returns the IDs of the actions that a call may have changed or locked.
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

// checkLinearizable checks the history of one server with porcupine, and writes an HTML drawing of a history that
// fails. risingIDs expects each new ID to be greater than all earlier ones.
func checkLinearizable(t *testing.T, server string, history []recorded, risingIDs bool) {
	model := porcupine.Model{
		Init: func() any { return modelState{servers: map[string]mode{server: {}}, risingIDs: risingIDs} },
		Step: func(state, input, output any) (bool, any) {
			c := input.(call)
			c.Answer = output.(answer)
			next, want := state.(modelState).apply(c)
			// Unlike cmp, DeepEqual distinguishes UTC from other time zones.
			return reflect.DeepEqual(want, c.Answer), next
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
	t.Errorf("linearizable: %s. Drawing: %s. The history, in nanoseconds:\n%s", result, path, &lines)
}
