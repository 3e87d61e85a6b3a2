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

// This file has the clocks and counters of all measurements.

// rounds is how many times the sides of a comparison alternate.
const rounds = 3

// samples are the durations of calls of one kind.
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

// rate is a number of calls and the time that they took.
type rate struct {
	done    int
	elapsed time.Duration
}

func (r *rate) add(other rate) {
	r.done += other.done
	r.elapsed += other.elapsed
}

func (r rate) perSecond() float64 { return float64(r.done) / r.elapsed.Seconds() }

// concurrently runs n callers at the same time, each in its own goroutine. It returns the sum of their calls, the time
// until the last of them returned, and the first error.
func concurrently(n int, call func(caller int) (done int, err error)) (rate, error) {
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

// during repeats a step until d has passed or the context is done. It returns the number of steps that succeeded.
func during(ctx context.Context, d time.Duration, step func() error) (n int, err error) {
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; n++ {
		if err := step(); err != nil {
			return n, err
		}
	}
	return n, ctx.Err()
}

// mallocs returns the number of objects that the process has allocated.
func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// upTo returns a random number from 1 to n.
func upTo(n int) int64 { return rand.Int64N(int64(n)) + 1 }

// serverOf returns the ID of a caller's server.
func serverOf(caller int) string { return "server-" + strconv.Itoa(caller) }
