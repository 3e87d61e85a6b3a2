package main

import "slices"

// This file collects the mutants of conditions: of WHERE, WHEN, IF and JOIN … ON.

// whole collects the mutants of a complete condition. If it has only one part, that part is dropped too.
func (s *source) whole(from, to int) {
	if len(s.sql.split(from, to, "OR")) == 1 && len(s.sql.split(from, to, "AND")) == 1 {
		s.weaken(from, to, "TRUE")
	}
	s.condition(from, to)
}

// weaken adds a mutant in which one part of a condition has no effect. The text of the part stays, so that the
// statement keeps its parameters. neutral is TRUE or FALSE, the value that takes the part out of an AND or an OR.
func (s *source) weaken(from, to int, neutral string) {
	operator := " OR "
	if neutral == "FALSE" {
		operator = " AND "
	}
	s.drop("without "+s.words(from, to), cut{from, to, "(" + s.original(from, to) + operator + neutral + ")"})
}

// condition collects a mutant for each part of a condition, and for each part of these parts.
func (s *source) condition(from, to int) {
	for _, o := range []struct{ operator, neutral string }{{"OR", "FALSE"}, {"AND", "TRUE"}} {
		parts := s.sql.split(from, to, o.operator)
		if len(parts) == 1 {
			continue
		}
		for _, p := range parts {
			s.weaken(p[0], p[1], o.neutral)
			s.condition(p[0], p[1])
		}
		return
	}
	switch {
	case s.sql.is(from, "NOT"):
		s.condition(from+1, to)
	case s.sql.is(from, "("):
		s.parenthesized(from, to)
	case s.sql.is(from, "CASE"):
		s.cases(from, to)
	case s.sql.is(from, "coalesce"), s.sql.is(from, "num_nonnulls"):
		end := s.sql.until(from + 2)
		if s.sql.is(end+1, "IS", "NULL") || s.sql.is(end+1, "=", "0") {
			for _, m := range s.sql.split(from+2, end, ",") {
				s.drop("without "+s.words(m[0], m[1])+" in "+s.words(from, from+2)+"…", cut{m[0], m[1], "NULL"})
			}
		}
	}
}

// parenthesized collects the mutants of (condition), (condition) IS NOT TRUE, and (a, b) IS NOT (c, d).
func (s *source) parenthesized(from, to int) {
	end := s.sql.until(from + 1)
	left := s.sql.split(from+1, end, ",")
	if len(left) == 1 {
		if end == to-1 || s.sql.is(to-1, "TRUE") {
			s.condition(from+1, end)
		}
		return
	}
	open := end + 1
	for open < to && !s.sql.is(open, "(") {
		open++
	}
	right := s.sql.split(open+1, to-1, ",")
	if len(right) != len(left) || s.sql.is(open-1, "IN") {
		return // a list of allowed rows: without one, the condition would be stricter
	}
	for i := range left {
		s.drop("without "+s.words(left[i][0], left[i][1])+" in "+s.words(from, from+2)+"…",
			s.member(left, i), s.member(right, i))
	}
}

// cases collects the mutants of the results in CASE … THEN condition … ELSE condition END.
func (s *source) cases(from, to int) {
	to = min(to, s.sql.until(from+1)+1)
	for i := from + 1; i < to-1; i++ {
		if i = s.sql.until(i, "THEN", "ELSE"); i < to-1 {
			end := s.sql.until(i+1, "WHEN", "ELSE")
			s.whole(i+1, end)
			i = end - 1
		}
	}
}

// extreme collects the mutants of greatest, least or max, if the result is compared. In each mutant, one of the values
// is replaced by another of them.
func (s *source) extreme(i int) {
	end := s.sql.until(i + 2)
	compares := func(i int) bool {
		return i < len(s.sql) && slices.Contains([]string{"<", "<=", ">=", "+"}, s.sql[i].text)
	}
	if !compares(i-1) && !compares(end+1) && !s.sql.is(end+1, "AS") {
		return
	}
	list := s.sql.split(i+2, end, ",")
	for n, m := range list {
		if other := list[(n+1)%len(list)]; len(list) > 1 {
			s.drop("without "+s.words(m[0], m[1])+" in "+s.words(i, i+2)+"…", cut{m[0], m[1], s.original(other[0], other[1])})
		}
	}
}

// columns adds a mutant for each column in a trigger's UPDATE OF list: the trigger without that column.
func (s *source) columns(from, to int) {
	list := s.sql.split(from, to, ",")
	if len(list) == 1 {
		return
	}
	for i, m := range list {
		s.drop("without "+s.words(m[0], m[1])+" in "+s.words(from-2, from)+"…", s.member(list, i))
	}
}

// member returns the cut that removes a member, and one comma, from a list.
func (s *source) member(list [][2]int, i int) cut {
	if i > 0 {
		return cut{list[i][0] - 1, list[i][1], ""}
	}
	return cut{list[0][0], list[0][1] + 1, ""}
}
