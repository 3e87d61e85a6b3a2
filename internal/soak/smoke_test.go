package soak

import (
	_ "github.com/anishathalye/porcupine"
	_ "github.com/google/go-cmp/cmp"
	_ "go.uber.org/goleak"
	_ "golang.org/x/sys/unix"
	_ "pgregory.net/rapid"
	"testing"
)

func TestSmoke(t *testing.T) {
	onEngines(t, func(t *testing.T, d database) {
		l := d.ledger(t)
		if err := l.AddServer(t.Context(), "web-1"); err != nil {
			t.Fatal(err)
		}
	})
}
