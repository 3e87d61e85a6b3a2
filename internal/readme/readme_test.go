// Package readme_test keeps README.md true: its Go code compiles against this checkout, its first program prints what
// it says, and its make targets exist.
//
// How to write the README, so that this holds:
//
//   - A ```go block that begins with "package main" is a program. It is complete, and vetted as it is. The first one is
//     run in an empty directory. If the next block of the same section is a ```text block, the program must print that
//     (stdout or stderr; more before or after it is fine), so it shows nothing that changes from run to run.
//   - Every other ```go block is a fragment: either statements, or declarations (func, type, var). It uses the packages
//     in imports and the variables in given, below, without saying where they come from, and may declare variables of
//     the same names itself. Statements are the body of a function that returns an error, so "return err" is fine.
//     Variables that statements declare and never use are fine too, unless they are inside a nested block. A fragment
//     that needs another package begins with its import, and needs no "package" line.
//   - Every fragment stands alone: none sees what another one declares. "..." doesn't compile.
//   - Programs and fragments are an importer's code: packages under internal/ are out of their reach.
//   - In ```sh blocks each target of a make command must have its rule in the Makefile; a leading "$ " is fine.
//
// Compile errors point at the line of README.md.
package readme_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// imports are the packages that a fragment may use without an import, by the name it uses them under.
var imports = map[string]string{
	"context":     "context",
	"sql":         "database/sql",
	"json":        "encoding/json",
	"errors":      "errors",
	"fmt":         "fmt",
	"log":         "log",
	"slog":        "log/slog",
	"http":        "net/http",
	"os":          "os",
	"exec":        "os/exec",
	"strings":     "strings",
	"time":        "time",
	"pgx":         "github.com/jackc/pgx/v5",
	"pgxpool":     "github.com/jackc/pgx/v5/pgxpool",
	"remediation": "github.com/homelab-cmd/actionledger/remediation",
	"sqlite":      "github.com/homelab-cmd/actionledger/remediation/sqlite",
	"postgres":    "github.com/homelab-cmd/actionledger/remediation/postgres",
	"schema":      "github.com/homelab-cmd/actionledger/schema",
	"sqlitedb":    "github.com/homelab-cmd/actionledger/db/sqlitedb",
	"postgresdb":  "github.com/homelab-cmd/actionledger/db/postgresdb",
}

// given are the variables that a fragment may use without declaring them.
var given = map[string]string{
	"ctx":     "context.Context",
	"err":     "error",
	"ledger":  "*remediation.Ledger",
	"store":   "*sqlite.Store",
	"db":      "*sql.DB",
	"tx":      "*sql.Tx",
	"pool":    "*pgxpool.Pool",
	"conn":    "*pgx.Conn",
	"id":      "int64",
	"alertID": "int64",
	"action":  "remediation.Action",
	"actions": "[]remediation.Action",
	"execute": "func(ctx context.Context, command string) remediation.Result",
	"logger":  "*slog.Logger",
	"path":    "string",
	"w":       "http.ResponseWriter",
	"r":       "*http.Request",
}

const root = "../.."

func TestCodeCompiles(t *testing.T) {
	for _, problem := range vet(t, readme(t)) {
		t.Error(problem)
	}
}

func TestFirstProgramPrintsWhatTheTextShows(t *testing.T) {
	program, shown := firstProgram(readme(t))
	if program == nil {
		t.Fatal(`README.md has no go block that begins with "package main"`)
	}
	printed := run(t, *program)
	if shown != nil && !strings.Contains(printed, strings.TrimSpace(shown.text)) {
		t.Errorf("%s: the README shows\n%s\nand the program before it prints\n%s", shown.at(), shown.text, printed)
	}
}

func TestMakeTargetsExist(t *testing.T) {
	for _, missing := range withoutRule(t, readme(t), filepath.Join(root, "Makefile")) {
		t.Error(missing)
	}
}

func readme(t *testing.T) []block {
	t.Helper()
	return blocksOf(t, filepath.Join(root, "README.md"))
}
