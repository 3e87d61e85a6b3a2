// Package schema embeds the migrations, the source of truth for the database: the same files serve Migrate, the stock
// migrate CLI and sqlc.
package schema

import (
	"embed"
	"io/fs"
)

//go:embed sqlite/*.sql
var files embed.FS

// SQLite holds the migrations for SQLite, 000001_….up.sql and .down.sql, at its root.
var SQLite = folder("sqlite")

func folder(name string) fs.FS {
	dir, err := fs.Sub(files, name)
	if err != nil {
		panic(err) // unreachable: name is a constant and a valid path
	}
	return dir
}
