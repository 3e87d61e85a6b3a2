package main

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"
)

// rounds is how often the sides of a comparison take turns.
const rounds = 3

// samples are how long one kind of call took, each time.
type samples []time.Duration

func (s samples) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func (s samples) median() time.Duration { return s.quantile(0.5) }

func (s *samples) time(call func() error) error {
	start := time.Now()
	err := call()
	*s = append(*s, time.Since(start))
	return err
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

// rate counts what happened in how much time.
type rate struct {
	done    int
	elapsed time.Duration
}

func (r *rate) add(other rate) {
	r.done += other.done
	r.elapsed += other.elapsed
}

func (r rate) perSecond() float64 { return float64(r.done) / r.elapsed.Seconds() }

// together runs one goroutine for each of n callers and returns how much they did in all, in the time until the last of
// them came back.
func together(n int, call func(caller int) (done int, err error)) (rate, error) {
	var mu sync.Mutex
	var all rate
	var failed error
	var wg sync.WaitGroup
	start := time.Now()
	for caller := range n {
		wg.Go(func() {
			done, err := call(caller)
			mu.Lock()
			defer mu.Unlock()
			all.done += done
			if failed == nil {
				failed = err
			}
		})
	}
	wg.Wait()
	all.elapsed = time.Since(start)
	return all, failed
}

// during repeats a step until d has passed or the context has ended, and returns how often.
func during(ctx context.Context, d time.Duration, step func() error) (n int, err error) {
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; n++ {
		if err := step(); err != nil {
			return n, err
		}
	}
	return n, ctx.Err()
}

// mallocs is how many objects the process has allocated.
func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// upTo is a number from 1 to n.
func upTo(n int) int64 { return rand.Int64N(int64(n)) + 1 }

// serverOf is the server whose agent a caller is.
func serverOf(caller int) string { return "server-" + strconv.Itoa(caller) }
