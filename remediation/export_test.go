package remediation

import "time"

// SetPollInterval sets how often followers of a store look for what others wrote, before there are any.
func SetPollInterval(s Store, d time.Duration) { s.Backend().feed().interval = d }

// Waiting is how many followers of a store wait for events.
func Waiting(s Store) int64 { return s.Backend().feed().waiting.Load() }
