// Package migration runs the migrations of a schema through golang-migrate, in one transaction. It also checks the
// version of a database, and that no rule of the schema is missing.
package migration

import (
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	"github.com/golang-migrate/migrate/v4/source"
	"github.com/golang-migrate/migrate/v4/source/iofs"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Latest returns the version of the newest migration in files. The code is written for this version.
func Latest(files fs.FS) (int, error) {
	src, err := iofs.New(files, ".")
	if err != nil {
		return 0, fmt.Errorf("read migrations: %w", err)
	}
	defer src.Close()
	return latest(src)
}

func latest(src source.Driver) (int, error) {
	version, err := src.First()
	for err == nil {
		var next uint
		if next, err = src.Next(version); err == nil {
			version = next
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("read migrations: %w", err)
	}
	return int(version), nil
}

// Up migrates the database of drv to the latest version in files. Lock and Unlock of drv must begin and end a
// transaction, in which all migrations run. Up returns remediation.ErrSchemaVersion if the database is newer than
// files, or if the stock CLI left it dirty.
func Up(files fs.FS, drv database.Driver) error {
	src, err := iofs.New(files, ".")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	defer src.Close()
	newest, err := latest(src)
	if err != nil {
		return err
	}
	g := &guarded{Driver: drv, newest: newest}
	m, err := migrate.NewWithInstance("iofs", src, "ledger", g)
	if err != nil {
		return err
	}
	m.LockTimeout = math.MaxInt64 // the timeout of the engine and the caller's context end the wait instead
	err = m.Up()
	if dirty := (migrate.ErrDirty{}); errors.As(err, &dirty) {
		return Check(newest, dirty.Version, true)
	}
	if errors.Is(err, migrate.ErrNoChange) { // it may be joined with the error of Unlock
		return g.unlocked
	}
	return err
}

// guarded is a driver that refuses a database newer than the migrations. golang-migrate would report a missing file
// instead.
type guarded struct {
	database.Driver
	newest   int
	unlocked error // the result of Unlock
}

func (g *guarded) Unlock() error {
	g.unlocked = g.Driver.Unlock()
	return g.unlocked
}

func (g *guarded) Version() (int, bool, error) {
	version, dirty, err := g.Driver.Version()
	if err == nil && version > g.newest {
		err = Check(g.newest, version, dirty)
	}
	return version, dirty, err
}

// Check returns nil if code for version want can work on a database at version got, otherwise an error that matches
// remediation.ErrSchemaVersion. got is database.NilVersion if the database has no schema.
func Check(want, got int, dirty bool) error {
	switch {
	case dirty:
		return fmt.Errorf("%w: a migration to version %d was left half done; repair it by hand, then run `migrate force VERSION`",
			remediation.ErrSchemaVersion, got)
	case got == database.NilVersion:
		return fmt.Errorf("%w: the database has no schema yet; call Migrate", remediation.ErrSchemaVersion)
	case got < want:
		return fmt.Errorf("%w: the database is at version %d and the code needs %d; call Migrate",
			remediation.ErrSchemaVersion, got, want)
	case got > want:
		return fmt.Errorf("%w: the database is at version %d and the code knows only %d; upgrade the program",
			remediation.ErrSchemaVersion, got, want)
	}
	return nil
}
