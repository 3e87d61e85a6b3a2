// Package soak tests on real processes, files and servers that no acknowledged change is lost. Each test has a short
// form and a long form. The short form runs a fixed number of rounds. The long form runs for -length and reports its
// progress.
package soak

import (
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"
)

var (
	length = flag.Duration("length", 0, "how long each test runs; 0 runs the short form")
	seed   = flag.Uint64("seed", 0, "repeat the random choices of the run that printed this seed; 0 draws a new seed")
)

// run counts the rounds of one test and is the source of its random choices.
type run struct {
	*rand.Rand
	t        *testing.T
	begin    time.Time
	reported time.Time
	short    int // rounds of the short form
	rounds   int // rounds started so far
	status   func() string
}

// runSeed is the seed that all tests share.
var runSeed = sync.OnceValue(func() uint64 {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	return *seed
})

// newRun starts a test. short is the number of rounds of its short form, and status describes its progress. newRun logs
// the seed. The seed and the test's name determine the random choices of the test, but not how processes interleave.
func newRun(t *testing.T, short int, status func() string) *run {
	t.Helper()
	name := fnv.New64a()
	name.Write([]byte(t.Name()))
	choices := rand.New(rand.NewPCG(runSeed(), name.Sum64()))
	r := &run{Rand: choices, t: t, begin: time.Now(), reported: time.Now(), short: short, status: status}
	t.Logf("-seed %d", runSeed())
	t.Cleanup(func() { t.Logf("%d rounds in %v: %s", r.rounds, time.Since(r.begin).Round(time.Second), status()) })
	return r
}

// skipOrFail skips a test that needs something this machine does not have. With POSTGRES_REQUIRED set, the test fails.
func skipOrFail(t *testing.T, why any) {
	t.Helper()
	if os.Getenv("POSTGRES_REQUIRED") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// next starts another round, or returns false if the test is over. The long form prints its progress to standard error.
func (r *run) next() bool {
	if r.t.Failed() {
		return false
	}
	if *length == 0 {
		if r.rounds == r.short {
			return false
		}
	} else {
		passed := time.Since(r.begin)
		if passed >= *length {
			return false
		}
		if time.Since(r.reported) >= 5*time.Second {
			r.reported = time.Now()
			fmt.Fprintf(os.Stderr, "%s: %v of %v, %d rounds, %s\n",
				r.t.Name(), passed.Round(time.Second), *length, r.rounds, r.status())
		}
	}
	r.rounds++
	return true
}
