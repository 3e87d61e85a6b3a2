package readme_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is one fenced block of a Markdown file.
type block struct {
	file    string // absolute
	line    int    // of the first line of text
	section int    // how many headings are above it
	lang    string // the first word after the fence
	text    string
}

func (b block) at() string { return fmt.Sprintf("%s:%d", b.file, b.line) }

func (b block) isProgram() bool { return b.lang == "go" && strings.HasPrefix(b.text, "package main") }

var (
	fence   = regexp.MustCompile("^( *)(```+)([^`]*)$")
	heading = regexp.MustCompile("^#{1,6} ")
)

func blocksOf(t *testing.T, path string) []block {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var (
		blocks  []block
		section int
		indent  string
		closing string // of the block that is open, or ""
	)
	for i, line := range strings.Split(string(text), "\n") {
		mark := fence.FindStringSubmatch(line)
		switch {
		case closing == "" && mark != nil:
			lang, _, _ := strings.Cut(strings.TrimSpace(mark[3]), " ")
			blocks = append(blocks, block{file: path, line: i + 2, section: section, lang: lang})
			indent, closing = mark[1], mark[2]
		case closing == "" && heading.MatchString(line):
			section++
		case closing != "" && mark != nil && strings.HasPrefix(mark[2], closing) && strings.TrimSpace(mark[3]) == "":
			closing = ""
		case closing != "":
			blocks[len(blocks)-1].text += strings.TrimPrefix(line, indent) + "\n"
		}
	}
	if closing != "" {
		t.Fatalf("%s: this block has no end", blocks[len(blocks)-1].at())
	}
	return blocks
}

// firstProgram also returns the text block that shows what the program prints, if there is one.
func firstProgram(blocks []block) (program, shown *block) {
	for i := range blocks {
		if !blocks[i].isProgram() {
			continue
		}
		if i+1 < len(blocks) && blocks[i+1].lang == "text" && blocks[i+1].section == blocks[i].section {
			return &blocks[i], &blocks[i+1]
		}
		return &blocks[i], nil
	}
	return nil, nil
}
