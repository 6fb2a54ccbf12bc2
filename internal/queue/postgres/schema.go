package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// migration takes the schema from one version to the next.
type migration struct {
	files []string          // in sql/schema, in this order
	again []string          // files of an earlier step, whose functions this step makes once more
	edit  *strings.Replacer // changes those functions
	// reader is the least version that a process must know to use the schema after this step. Processes of the previous version go on
	// beside the one that migrates. So a step keeps what they use, and only adds to it. The name of a function ends in the version that
	// made it. The step that raises reader beyond the last version that calls a function drops it.
	reader int
}

// migrations are the steps of the schema. hubhook.version says how many were applied. Existing entries and their SQL never change: a change
// of the schema is a new entry at the end, with its own files.
var migrations = []migration{{
	files:  []string{"1_tables", "1_row", "1_now", "1_series", "1_commit", "1_claim", "1_renew", "1_connect", "1_sweep"},
	reader: 1,
}, {
	files:  []string{"2_mark"},
	reader: 1,
}, {
	files:  []string{"3_sweep", "3_arrive"},
	again:  []string{"1_commit", "1_renew"},
	edit:   strings.NewReplacer(append([]string{"commit_1", "commit_3", "renew_1", "renew_3"}, withoutStateIndex...)...),
	reader: 1,
}, {
	files:  []string{"4_store"},
	again:  []string{"1_commit", "1_claim", "1_renew"},
	edit:   strings.NewReplacer(slices.Concat([]string{"commit_1", "commit_4", "claim_1", "claim_4", "renew_1", "renew_4"}, withoutStateIndex, byKey())...),
	reader: 1,
}}

func (m migration) sql() string {
	var all strings.Builder
	for _, name := range m.files {
		all.WriteString(query("schema/" + name))
	}
	for _, name := range m.again {
		all.WriteString(m.edit.Replace(query("schema/" + name)))
	}
	return all.String()
}

// withoutStateIndex has the edits of version 3. A plan of version 1 that is made while few deliveries are unfinished looks them up in the index
// of running deliveries, not by their ids. So it reads the entries of all deliveries that have run since the last vacuum. No index matches
// "state + 0".
var withoutStateIndex = []string{
	"u.token = e.token AND u.state = ", "u.token = e.token AND u.state + 0 = ",
	"u.token = c.token AND u.state = ", "u.token = c.token AND u.state + 0 = ",
	"u.state = " + store.NumberStates("{waiting}") + " AND NOT u.started", "u.state + 0 = " + store.NumberStates("{waiting}") + " AND NOT u.started",
}

// byKey returns the edits of version 4. A vacuum usually finds the table unfinished empty. A plan that is made then expects one row, so it may
// read the whole index instead of looking up a key. Until the next vacuum, every commit and claim then reads the entries of all deliveries
// that have run. The planner reads a whole index only for a join by "=". So such a join becomes "= ANY (ARRAY[value])".
func byKey() (edits []string) {
	for _, join := range []string{
		"u.id = e.id", "u.id = x.id", "u.id = c.id", "u.id = mine.id", "u.id = ended.id", "u.id = old.id", "u.id = b.last",
		"d.id = k.id", "d.id = e.id", "d.id = x.id", "d.id = g.id", "d.id = t.id", "d.id = u.id", "d.id = ended.id", "d.id = old.id",
		"c.id = d.id", "w.hash = a.hash", "b.endpoint = a.endpoint", "b.key = a.key", "s.endpoint = a.endpoint", "s.key = a.serial",
	} {
		column, value, _ := strings.Cut(join, " = ")
		edits = append(edits, join, column+" = ANY (ARRAY["+value+"])")
	}
	return edits
}

// migrate applies the missing migrations. If several processes do so at the same time, one goes first and the others find it done.
func (d *database) migrate(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(7524361420211914090)"); err != nil {
			return d.failed("wait for others that bring the database's schema up to date", err)
		}
		var there, mayCreate, mayUse bool
		var database, user string
		if err := tx.QueryRow(ctx, query("rights")).Scan(&there, &mayCreate, &mayUse, &database, &user); err != nil {
			return d.failed("look for the schema hubhook", err)
		}
		switch {
		case !there && !mayCreate:
			return &databaseError{
				text: "make the schema hubhook in the database: its user may not make schemas",
				hint: fmt.Sprintf("as the database's owner, run: CREATE SCHEMA hubhook AUTHORIZATION %s; or: GRANT CREATE ON DATABASE %s TO %s", user, database, user),
			}
		case there && !mayUse:
			return &databaseError{
				text: "use the schema hubhook of the database: its user may not",
				hint: fmt.Sprintf("as the schema's owner, run: ALTER SCHEMA hubhook OWNER TO %s; or use the user who owns it", user),
			}
		case !there:
			if _, err := tx.Exec(ctx, "CREATE SCHEMA hubhook"); err != nil {
				return d.failed("make the schema hubhook in the database", err)
			}
		}
		var tables bool
		if err := tx.QueryRow(ctx, "SELECT to_regclass('hubhook.version') IS NOT NULL").Scan(&tables); err != nil {
			return d.failed("look for hubhook's tables", err)
		}
		have, reader := 0, 0
		if tables {
			if err := tx.QueryRow(ctx, "SELECT version, reader FROM hubhook.version").Scan(&have, &reader); err != nil {
				return d.failed("read the schema's version", err)
			}
		} else if _, err := tx.Exec(ctx, "CREATE TABLE hubhook.version (version integer NOT NULL, reader integer NOT NULL)"); err != nil {
			err := d.failed("make hubhook's tables", err)
			var pe *databaseError
			if errors.As(err, &pe) && pe.code == "42501" {
				pe.hint = fmt.Sprintf("as the schema's owner, run: ALTER SCHEMA hubhook OWNER TO %s", user)
			}
			return err
		}
		know := len(migrations)
		if reader > know {
			return &databaseError{
				text: fmt.Sprintf("use the database: a later version of hubhook has changed its schema (to %d, this one knows %d)", have, know),
				hint: "use that version of hubhook or a later one, or another database",
			}
		}
		if have >= know {
			return nil
		}
		for i, m := range migrations[have:] {
			if _, err := tx.Conn().PgConn().Exec(ctx, m.sql()).ReadAll(); err != nil {
				return d.failed(fmt.Sprintf("bring the database's schema to version %d", have+i+1), err)
			}
			reader = m.reader
		}
		if _, err := tx.Exec(ctx, "DELETE FROM hubhook.version"); err != nil {
			return d.failed("note the schema's version", err)
		}
		if _, err := tx.Exec(ctx, "INSERT INTO hubhook.version (version, reader) VALUES ($1, $2)", know, reader); err != nil {
			return d.failed("note the schema's version", err)
		}
		return nil
	})
}
