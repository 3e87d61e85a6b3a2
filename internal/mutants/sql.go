package main

import (
	"regexp"
	"slices"
)

// This file splits SQL into tokens, and finds the ends of clauses and lists.

// token is a word, a literal or an operator at text[at:end].
type token struct {
	text    string
	at, end int
}

// lexeme matches a token, or a comment or white space.
var lexeme = regexp.MustCompile(`--[^\n]*|\s+|\$\$|'(?:[^']|'')*'|[A-Za-z_?$][\w.]*|\d+|<>|<=|>=|\|\||::|.`)

// ignored matches the lexemes that are not tokens. $$ is one of them, so that the body of a function is read like other
// SQL.
var ignored = regexp.MustCompile(`^(--|\s|\$\$)`)

func tokens(text string) []token {
	var list []token
	for _, at := range lexeme.FindAllStringIndex(text, -1) {
		if t := text[at[0]:at[1]]; !ignored.MatchString(t) {
			list = append(list, token{t, at[0], at[1]})
		}
	}
	return list
}

// sql is the tokens of a text. Positions are indexes of tokens.
type sql []token

// is reports whether the tokens from i on are these words.
func (s sql) is(i int, words ...string) bool {
	if i < 0 || i+len(words) > len(s) {
		return false
	}
	for j, w := range words {
		if s[i+j].text != w {
			return false
		}
	}
	return true
}

func (s sql) opens(i int) bool  { return s[i].text == "(" || s[i].text == "CASE" }
func (s sql) closes(i int) bool { return s[i].text == ")" || s[i].text == "END" }

// until returns the first position from i on that is one of the words, or the end of the enclosing parentheses or CASE.
// It skips nested parentheses and CASEs.
func (s sql) until(i int, words ...string) int {
	for depth := 0; i < len(s); i++ {
		switch {
		case depth == 0 && (s.closes(i) || slices.Contains(words, s[i].text)):
			return i
		case s.opens(i):
			depth++
		case s.closes(i):
			depth--
		}
	}
	return len(s)
}

// split splits at each occurrence of a word that is not in parentheses, and returns the start and end of each piece. It
// does not split at the AND of a BETWEEN.
func (s sql) split(from, to int, word string) [][2]int {
	var pieces [][2]int
	for i := from; ; i++ {
		end := min(s.until(i, word), to)
		if word == "AND" && end < to && s.is(s.until(i, "BETWEEN", word), "BETWEEN") {
			end = min(s.until(end+1, word), to)
		}
		pieces = append(pieces, [2]int{i, end})
		if end == to {
			return pieces
		}
		i = end
	}
}
