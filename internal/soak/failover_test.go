package soak

import (
	"fmt"
	"testing"
	"time"
)

// synchronous is the setting for a fail-over that loses no acknowledged change. Such a fail-over needs a standby, and:
//   - synchronous_standby_names names the standby, on both servers. After the promotion the new primary then
//     acknowledges no commit until it has a standby of its own. The value is not '*', because a running backup would
//     satisfy that.
//   - synchronous_commit is on (the default) or remote_apply, in every role and session. With local, remote_write or
//     off the server acknowledges commits that are not on the standby's disk.
//   - Nothing cancels a commit that waits for the standby, including statement_timeout. After a cancel the server
//     reports that it committed, although only its own disk has the change. A caller whose context ends gets an error,
//     so nothing was acknowledged to it. A change that it reads afterwards may be lost with that server.
//   - The URL names both servers, with target_session_attrs=read-write and a connect_timeout. The old primary never
//     comes back as a primary.
const synchronous = "synchronous_standby_names = 'walreceiver'"

// A primary is killed while many callers work, and its synchronous standby is promoted. Every acknowledged change must
// be on the new primary.
func TestFailOverLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	primary := newCluster(t, synchronous)
	standby := primary.standby(t, 0) // without a standby, not even CREATE DATABASE would return
	d := ledgerOn(t, primary, standby)
	acks := newAcknowledged()
	failovers := 0
	run := newRun(t, 1, func() string { return fmt.Sprintf("%d fail-overs, %s", failovers, acks) })
	stop := workInBackground(t, d, acks, run.Uint64())
	for run.next() {
		waitUntilSynchronous(t, primary)
		waitForAnswers(t, acks, 200)
		time.Sleep(time.Duration(run.Int64N(int64(300 * time.Millisecond)))) // crash at a random moment
		primary.crash(t)
		standby.promote(t)
		failovers++
		acks.verify(t, d)
		d.check(t)
		primary, standby = standby, standby.standby(t, primary.port)
	}
	waitForAnswers(t, acks, 200) // the same pool has connected to the new primary
	stop()
	acks.verifyAll(t, d)
	d.check(t)
}

// waitUntilSynchronous waits until the standby is connected and every commit on the primary waits for it.
func waitUntilSynchronous(t *testing.T, primary *cluster) {
	t.Helper()
	db := clusterURL("postgres", primary).raw(t)
	defer db.Close()
	waitUntil(t, "the standby is synchronous", func() bool {
		var n int
		err := db.QueryRow(`SELECT count(*) FROM pg_stat_replication
			WHERE state = 'streaming' AND sync_state = 'sync'`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n == 1
	})
}
