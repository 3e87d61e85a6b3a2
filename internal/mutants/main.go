// Command mutants does mutation testing of the ledger's SQL. It drops one guard at a time, in a copy of the repository,
// and runs the tests. A mutant that passes all tests has survived: either a test is missing, or the guard does nothing.
// A guard is a trigger, a part of a trigger's condition, a constraint, or a condition, order, limit or lock of a query.
// The guards are found by reading the SQL, so a new rule becomes a mutant without a change here.
//
// Run it in the root of the repository. It takes much less time with TMPDIR on a RAM disk and on a server with fsync
// off.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var (
	engine = flag.String("engine", "both", "drop the guards of sqlite, postgres (needs POSTGRES_URL) or both")
	only   = flag.String("only", "", "drop only guards whose name matches this regular expression")
	jobs   = flag.Int("jobs", 2, "how many mutants to run at once")
	list   = flag.Bool("list", false, "list the mutants instead of running them")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	ok, err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// run reports whether every mutant was noticed.
func run(ctx context.Context) (bool, error) {
	engines, err := chosen()
	if err != nil {
		return false, err
	}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return false, err
	}
	var mutants []mutant
	for _, e := range engines {
		all, err := e.mutants(".")
		if err != nil {
			return false, err
		}
		for _, m := range all {
			if !wanted.MatchString(m.name) {
				continue
			}
			if m.engine.needsServer() && noServer() && !*list {
				fmt.Println(m.name + ": not tried, because POSTGRES_URL names no server")
				continue
			}
			mutants = append(mutants, m)
		}
	}
	if *list {
		for _, m := range mutants {
			fmt.Println(m.name)
		}
		fmt.Println(len(mutants), "mutants")
		return true, nil
	}
	results, err := tryAll(ctx, engines, mutants)
	if err != nil {
		return false, err
	}
	return report(results), nil
}

// chosen returns the dialects that -engine names.
func chosen() ([]dialect, error) {
	var engines []dialect
	for _, e := range dialects {
		if *engine == e.name || *engine == "both" {
			engines = append(engines, e)
		}
	}
	if len(engines) == 0 {
		return nil, fmt.Errorf("there is no engine %q", *engine)
	}
	if *engine != "sqlite" && !*list && noServer() {
		return nil, fmt.Errorf("POSTGRES_URL names no server; -engine sqlite needs none")
	}
	return engines, nil
}

func noServer() bool { return os.Getenv("POSTGRES_URL") == "" }

// tryAll tries the mutants, each in one of several copies of the repository. There is one copy for each job. First it
// checks that the tests pass without a mutant.
func tryAll(ctx context.Context, engines []dialect, mutants []mutant) ([]result, error) {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // a test reads the schema as a different user
		return nil, err
	}
	copies := make([]*workspace, max(1, *jobs))
	for i := range copies {
		if copies[i], err = newWorkspace(fmt.Sprintf("%s/%d", dir, i), "."); err != nil {
			return nil, err
		}
	}
	for _, e := range engines {
		begin := time.Now()
		r, err := copies[0].try(ctx, mutant{engine: e})
		if err != nil {
			return nil, err
		}
		if r.outcome != survived {
			return nil, fmt.Errorf("%s fails without a mutant: %s\n%s", e.name, r.why, r.output)
		}
		fmt.Printf("%s as it is passes, in %v\n", e.name, time.Since(begin).Round(time.Second))
	}

	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	results := make([]result, len(mutants))
	todo := make(chan int)
	var workers sync.WaitGroup
	var done atomic.Int64
	for _, w := range copies {
		workers.Go(func() {
			for i := range todo {
				begin := time.Now()
				r, err := w.try(ctx, mutants[i])
				if err != nil {
					fail(err)
					continue
				}
				results[i] = r
				fmt.Printf("%d/%d %s: %s, %.1fs\n", done.Add(1), len(mutants), mutants[i].name, r, time.Since(begin).Seconds())
			}
		})
	}
	for i := range mutants {
		if ctx.Err() != nil {
			break
		}
		todo <- i
	}
	close(todo)
	workers.Wait()
	return results, context.Cause(ctx)
}

// report prints the results. It returns whether no mutant survived or is undecided.
func report(results []result) bool {
	byOutcome := map[outcome][]result{}
	for _, r := range results {
		byOutcome[r.outcome] = append(byOutcome[r.outcome], r)
	}
	print := func(title string, list []result) {
		if len(list) == 0 {
			return
		}
		fmt.Printf("\n%d %s:\n", len(list), title)
		for _, r := range list {
			fmt.Println(" ", strings.TrimSuffix(r.mutant.name+": "+r.why, ": "))
		}
	}
	print("are not valid SQL, and prove nothing", byOutcome[invalid])
	print("change nothing, for this reason", byOutcome[equivalent])
	print("UNDECIDED", byOutcome[undecided])
	print("SURVIVED", byOutcome[survived])
	fmt.Printf("\n%d mutants: %d noticed, %d survived, %d undecided, %d not valid, %d that change nothing\n", len(results),
		len(byOutcome[noticed]), len(byOutcome[survived]), len(byOutcome[undecided]), len(byOutcome[invalid]), len(byOutcome[equivalent]))
	return len(byOutcome[survived])+len(byOutcome[undecided]) == 0
}
