// Package sample builds SQL in every way that the check of the handwritten code must find, and in some that it must not.
package sample

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const table = "servers"

func constant(db *sql.DB, id string) { db.Query("SELECT 1 FROM "+table+" WHERE id = ?", id) }
func joined(db *sql.DB, id string)   { db.Query("SELECT 1 FROM servers WHERE id = '" + id + "'") }
func formatted(tx pgx.Tx, id string) {
	tx.QueryRow(context.Background(), fmt.Sprintf("SELECT '%s'", id))
}
func prepared(c *pgx.Conn, q []string) { c.Prepare(context.Background(), "name", q[0]) }
func queued(b *pgx.Batch, q []string)  { b.Queue(q[0]) }

type store struct{ *sql.DB }

func (s store) embedded(id string)                                { s.QueryRow("SELECT " + id) }
func (s store) run(q string, args ...any)                         { s.Exec(q, args...) }
func (s store) runAgain(q string)                                 { s.run(q, 1) }
func handedOn(s store, id string)                                 { s.runAgain("DELETE FROM " + id) }
func handedOnConstant(s store)                                    { s.runAgain("DELETE FROM servers") }
func changed(s store, q string)                                   { q += " WHERE 1"; s.Exec(q) }
func asValue(db *sql.DB) func(string, ...any) (sql.Result, error) { return db.Exec }
func throughAnother(s store) func(string)                         { return s.runAgain }
