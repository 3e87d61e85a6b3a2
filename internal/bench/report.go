package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// report is the result of a command, to print or to write into RESULTS.md.
type report struct{ tables []*table }

// table is one comparison. Its note explains the numbers.
type table struct {
	title, note string
	header      []string
	rows        [][]string
}

func (r *report) add(t *table) { r.tables = append(r.tables, t) }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (r *report) print(w io.Writer) {
	for _, t := range r.tables {
		fmt.Fprintf(w, "\n%s\n\n", t.title)
		tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
		for _, cells := range append([][]string{t.header}, t.rows...) {
			fmt.Fprintln(tw, strings.Join(cells, "\t")+"\t")
		}
		tw.Flush()
		fmt.Fprintf(w, "\n%s\n", t.note)
	}
}

func (r *report) markdown() string {
	var b strings.Builder
	for _, t := range r.tables {
		fmt.Fprintf(&b, "### %s\n\n%s\n\n", t.title, t.note)
		line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
		line(t.header)
		fmt.Fprintf(&b, "| --- %s|\n", strings.Repeat("| ---: ", len(t.header)-1))
		for _, cells := range t.rows {
			line(cells)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// intro is the start of a new results file.
const intro = `# Measured

The sides of each comparison alternate within one run, on one machine and one file system. So the **ratios** are the
result: the absolute numbers change with the disk and with the other load on the machine. "Bare" is the generated
statement on the driver, prepared once, without the ledger. Guards and events are part of the schema, so both the ledger
and bare include their cost. Every commit is durable on all sides (SQLite: WAL and synchronous FULL; PostgreSQL: fsync
and synchronous_commit on). "Missed" marks a ratio outside its target. The program in this folder writes the tables; each
section names its command.

![Throughput by number of callers](throughput.svg)
`

// replaceSection puts text between the markers of its section. It creates the file, or appends the section, if there is
// none.
func replaceSection(path, name, text string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = []byte(intro), nil
	}
	if err != nil {
		return err
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->\n"
	section := begin + "\n## " + name + "\n\n" + text + end
	before, rest, found := strings.Cut(string(data), begin)
	if !found {
		return os.WriteFile(path, []byte(before+"\n"+section), 0o644)
	}
	_, after, found := strings.Cut(rest, end)
	if !found {
		return fmt.Errorf("%s has no %q", path, strings.TrimSpace(end))
	}
	return os.WriteFile(path, []byte(before+section+after), 0o644)
}

// atMost and atLeast say whether a ratio meets its target.
func atMost(ratio, target float64) string  { return verdict(ratio <= target, "<=", target) }
func atLeast(ratio, target float64) string { return verdict(ratio >= target, ">=", target) }

func verdict(met bool, sign string, target float64) string {
	if met {
		return fmt.Sprintf("%s %.4g met", sign, target)
	}
	return fmt.Sprintf("%s %.4g **missed**", sign, target)
}

func times(ratio float64) string { return fmt.Sprintf("%.2f", ratio) }

func perSecond(n float64) string { return fmt.Sprintf("%.0f", n) }

func micros(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Nanoseconds())/1e3) }
