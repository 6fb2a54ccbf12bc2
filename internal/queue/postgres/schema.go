package postgres

import (
	"strings"
)

// migration brings the schema from one version to the next.
type migration struct {
	files []string // in sql/schema, in this order
	// reader is the least version that a process must know to work with the schema after this step. Processes of the version before
	// go on beside those that migrate, so a step adds and keeps what they use. A function has the version that made it in its name,
	// and goes with the step that raises reader beyond the last version that calls it.
	reader int
}

// migrations are those steps; hubhook.version says how many have been made. What is here stays as it is: a change of the schema is a new
// entry at the end, with files of its own.
var migrations = []migration{{
	files:  []string{"1_tables", "1_row", "1_now", "1_series", "1_commit", "1_claim", "1_renew", "1_connect", "1_sweep"},
	reader: 1,
}}

func (m migration) sql() string {
	var all strings.Builder
	for _, name := range m.files {
		all.WriteString(query("schema/" + name))
	}
	return all.String()
}
