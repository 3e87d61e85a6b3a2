package soak

import (
	"fmt"
	"testing"
	"time"
)

// What a fail-over takes that loses nothing, beside a standby:
//   - synchronous_standby_names names the standby, on both servers: what was promoted acknowledges nothing either until it
//     has a standby of its own. Not '*', which a backup in progress would satisfy.
//   - synchronous_commit is on (the default) or remote_apply, in every role and session: local, remote_write and off
//     acknowledge what the standby's disk doesn't have.
//   - Nothing cancels a commit that waits for the standby, also no statement_timeout: the server then says that it committed,
//     though only it has the change. A caller whose context ends is told an error, so to it nothing was acknowledged;
//     what it reads next may be lost with that server.
//   - The URL names both servers, with target_session_attrs=read-write and a connect_timeout, and the old primary never
//     comes back as a primary.
const synchronous = "synchronous_standby_names = 'walreceiver'"

func TestFailOverLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	primary := newCluster(t, synchronous)
	standby := primary.standby(t, 0) // without it not even CREATE DATABASE would return
	d := ledgerOn(t, primary, standby)
	acks := newAcknowledged()
	failovers := 0
	run := newRun(t, 1, func() string { return fmt.Sprintf("%d fail-overs, %s", failovers, acks) })
	stop := workInBackground(t, d, acks, run.Uint64())
	for run.next() {
		waitUntilSynchronous(t, primary)
		waitForAnswers(t, acks, 200)
		time.Sleep(time.Duration(run.Int64N(int64(300 * time.Millisecond)))) // any moment will do
		primary.crash(t)
		standby.promote(t)
		failovers++
		acks.verify(t, d)
		d.check(t)
		primary, standby = standby, standby.standby(t, primary.port)
	}
	waitForAnswers(t, acks, 200) // the same pool has followed
	stop()
	acks.verifyAll(t, d)
	d.check(t)
}

// waitUntilSynchronous waits until every commit of the primary waits for its standby.
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
