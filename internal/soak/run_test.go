// Package soak proves on real processes, files and servers that nothing acknowledged is lost. Each test has a short form,
// a fixed number of rounds for every test run, and a long one, which goes on for -length and says how far it is.
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
	length = flag.Duration("length", 0, "how long each test goes on; 0 is the short form")
	seed   = flag.Uint64("seed", 0, "repeat the choices of the run that printed this seed; 0 draws a new one")
)

// run is how long one test goes on, and where its random choices come from.
type run struct {
	*rand.Rand
	t        *testing.T
	begin    time.Time
	reported time.Time
	short    int // rounds of the short form
	rounds   int // begun
	status   func() string
}

// runSeed is one for all tests.
var runSeed = sync.OnceValue(func() uint64 {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	return *seed
})

// newRun begins a test of so many rounds in its short form. The seed is printed, so that a run can be replayed: with the
// test's name it decides what the test chooses, though not how the processes interleave.
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

// skipOrFail skips a test on a machine that lacks what it needs. POSTGRES_REQUIRED is set where nothing may go untested.
func skipOrFail(t *testing.T, why any) {
	t.Helper()
	if os.Getenv("POSTGRES_REQUIRED") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// next reports whether there is another round, and in the long form says how far the test is.
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
