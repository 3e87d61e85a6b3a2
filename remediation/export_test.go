package remediation

import "time"

// SetPollInterval sets the time between two polls of the followers of a store, for tests in package remediation_test.
// Call it before the first follower starts.
func SetPollInterval(s Store, d time.Duration) { s.Backend().feed().interval = d }

// Waiting returns the number of followers of a store that wait for events.
func Waiting(s Store) int64 { return s.Backend().feed().waiting.Load() }
