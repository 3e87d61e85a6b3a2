package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// machine returns the head of a section: the time and the command, the machine, and the versions of all software.
func machine(ctx context.Context, c config, command string) (string, error) {
	sqlite, err := sqliteVersion(ctx)
	if err != nil {
		return "", err
	}
	postgres := "not measured"
	if c.postgresURL != "" {
		if postgres, err = postgresVersion(ctx, c.postgresURL); err != nil {
			return "", err
		}
	}
	modules := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			modules[m.Path] = m.Version
		}
	}
	return fmt.Sprintf("- %s, `%s`\n- %d cores, %s, Linux %s\n- %s, SQLite %s (modernc.org/sqlite %s), PostgreSQL %s (pgx %s), River %s, goqite %s\n\n",
		time.Now().UTC().Format("2006-01-02 15:04 UTC"), command,
		runtime.NumCPU(), cpuModel(), kernel(),
		runtime.Version(), sqlite, modules["modernc.org/sqlite"], postgres, modules["github.com/jackc/pgx/v5"],
		modules["github.com/riverqueue/river"], modules["maragu.dev/goqite"]), nil
}

func cpuModel() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU (" + runtime.GOARCH + ")"
}

func kernel() string {
	data, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(data))
}

func sqliteVersion(ctx context.Context) (version string, err error) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return "", err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version)
	return version, err
}

func postgresVersion(ctx context.Context, url string) (version string, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "SHOW server_version").Scan(&version)
	return version, err
}

func startProfile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}
