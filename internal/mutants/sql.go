package main

import (
	"regexp"
	"slices"
)

// token is one word, literal or sign of a text: text[at:end].
type token struct {
	text    string
	at, end int
}

// Comments and white space are lexemes too, but no tokens. $$ around a function's body is passed over, so that the body
// is read like any other SQL.
var lexeme = regexp.MustCompile(`--[^\n]*|\s+|\$\$|'(?:[^']|'')*'|[A-Za-z_?$][\w.]*|\d+|<>|<=|>=|\|\||::|.`)

var silent = regexp.MustCompile(`^(--|\s|\$\$)`)

func tokens(text string) []token {
	var list []token
	for _, at := range lexeme.FindAllStringIndex(text, -1) {
		if t := text[at[0]:at[1]]; !silent.MatchString(t) {
			list = append(list, token{t, at[0], at[1]})
		}
	}
	return list
}

// sql is a stretch of tokens; a position counts from its first.
type sql []token

// is reports whether these words stand at i.
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

// until returns the first position from i on, in the same parentheses, at which one of the words stands, or they close.
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

// split cuts at a word where it stands outside of parentheses, and returns the pieces as from and to. The AND of a BETWEEN
// is none.
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
