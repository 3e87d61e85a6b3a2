// Command bench measures the ledger against the bare database driver and against other queues on the same databases,
// and measures how its speed changes with the length of the history. It is a separate module, so that importers of the
// ledger don't get the other queues as dependencies.
//
//	go run . ours  [-duration 3s] [-callers 1,2,4,16,64,256] [-only one]
//	go run . peers [-duration 3s] [-callers 1,4,16,64] [-chart throughput.svg]
//	go run . scale [-rows 10000,1000000,10000000] [-engine sqlite|postgres] [-open 100]
//
// Each prints tables. With -results RESULTS.md it also replaces its own section of that file. PostgreSQL is measured if
// POSTGRES_URL names a server on which databases may be created.
//
// The sides of a comparison alternate within one run, so that a busy machine slows both. Their ratios carry over to
// other machines; the absolute numbers don't.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// config is the configuration of a run, from its flags and the environment.
type config struct {
	duration    time.Duration // for each side of a comparison, over all rounds
	dir         string        // for the databases
	callers     []int         // numbers of concurrent callers to measure
	only        string        // the one comparison to run; empty means all
	chart       string        // the SVG file to write, if any
	rows        []int         // lengths of the history to measure
	engine      string        // of scale: sqlite or postgres
	open        int           // open actions in each history
	postgresURL string        // empty if PostgreSQL is not measured
}

var commands = map[string]func(context.Context, config) (*report, error){
	"ours":  ours,
	"peers": peers,
	"scale": scale,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	if len(args) == 0 || commands[args[0]] == nil {
		return fmt.Errorf("say what to measure: ours, peers or scale")
	}
	name := args[0]
	c := config{postgresURL: os.Getenv("POSTGRES_URL")}
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	results := flags.String("results", "", "replace the section of this name in this Markdown `file`")
	tmp := flags.String("tmp", "", "`directory` for the databases; must be on a disk")
	profile := flags.String("cpuprofile", "", "write a CPU profile to this `file`")
	flags.DurationVar(&c.duration, "duration", 3*time.Second, "how long each side of a comparison is measured")
	var callers, rows string
	switch name {
	case "ours":
		flags.StringVar(&callers, "callers", "1,2,4,16,64,256", "how many callers at once, on SQLite")
		flags.StringVar(&c.only, "only", "", "measure only `one` of one, callers, readers, many, outputs, pg-one, pg-callers")
	case "peers":
		flags.StringVar(&callers, "callers", "1,4,16,64", "how many callers at once")
		flags.StringVar(&c.only, "only", "", "measure only SQLite or PostgreSQL")
		flags.StringVar(&c.chart, "chart", "", "write a chart to this SVG `file`")
	case "scale":
		flags.StringVar(&rows, "rows", "10000,1000000,10000000", "how many actions, smallest first")
		flags.StringVar(&c.engine, "engine", "sqlite", "sqlite or postgres")
		flags.IntVar(&c.open, "open", 100, "how many of the actions are open, in every history")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if c.callers, err = numbers(callers); err != nil {
		return err
	}
	if c.rows, err = numbers(rows); err != nil {
		return err
	}
	if c.dir, err = os.MkdirTemp(*tmp, "actionledger-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(c.dir)
	stopProfile, err := startProfile(*profile)
	if err != nil {
		return err
	}
	r, err := commands[name](ctx, c)
	stopProfile()
	if err != nil {
		return err
	}
	r.print(os.Stdout)
	if *results == "" {
		return nil
	}
	heading, err := machine(ctx, c, "go run . "+strings.Join(args, " "))
	if err != nil {
		return err
	}
	if name == "scale" {
		name += "-" + c.engine
	}
	return replaceSection(*results, name, heading+r.markdown())
}

// numbers parses a list such as "1,4,16".
func numbers(list string) ([]int, error) {
	if list == "" {
		return nil, nil
	}
	var ns []int
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a number above 0", text)
		}
		ns = append(ns, n)
	}
	return ns, nil
}

// progress logs to stderr.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
