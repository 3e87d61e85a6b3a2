// Package schema embeds the migrations, the source of truth for the database: the same files serve Migrate, the stock
// migrate CLI and sqlc.
package schema

import (
	"embed"
	"io/fs"
)

//go:embed sqlite/*.sql postgres/*.sql
var files embed.FS

// The migrations of each engine, 000001_….up.sql and .down.sql and so on, at the root. Versions and names are the same.
var (
	SQLite   = folder("sqlite")
	Postgres = folder("postgres")
)

func folder(name string) fs.FS {
	dir, err := fs.Sub(files, name)
	if err != nil {
		panic(err) // unreachable: name is a constant and a valid path
	}
	return dir
}
