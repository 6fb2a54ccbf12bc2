package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/testing/pgserver"
)

// The call goes by position. PostgreSQL would not notice two parameters of one type that changed places.
func TestCommitPassesTheParametersThatItsFunctionHas(t *testing.T) {
	dir := t.TempDir()
	e := openTest(t, databaseOf(t, dir), Config{})
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	var has []string
	if err := e.readers.QueryRow(t.Context(), "SELECT proargnames[:pronargs] FROM pg_proc WHERE proname = 'commit_3'").Scan(&has); err != nil {
		t.Fatal(err)
	}
	var passes []string
	for _, p := range commitParams {
		passes = append(passes, p.name)
	}
	if !slices.Equal(has, passes) {
		t.Errorf("commit_3 has the parameters\n%v\nand is called with\n%v", has, passes)
	}
}

// Version 1 stays as it is, for processes of that version.
func TestVersionThreeFindsRowsByID(t *testing.T) {
	_, e := openBench(t, pgserver.Database(t), Config{})
	for name, want := range map[string]int{"commit_1": 0, "commit_3": 3, "renew_1": 0, "renew_3": 1} {
		var has int
		if err := e.readers.QueryRow(t.Context(), "SELECT (length(prosrc) - length(replace(prosrc, 'u.state + 0 =', ''))) / 13 FROM pg_proc WHERE proname = $1", name).Scan(&has); err != nil {
			t.Fatal(name, err)
		}
		if has != want {
			t.Errorf("%s looks %d times for a state without an index, want %d", name, has, want)
		}
	}
}

// All placeholders of each file must be replaced, and each file must be used.
func TestSQLFilesAreComplete(t *testing.T) {
	read := 0
	for _, dir := range []string{"sql", "sql/schema"} {
		entries, err := files.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range entries {
			name, isSQL := strings.CutSuffix(strings.TrimPrefix(dir+"/"+f.Name(), "sql/"), ".sql")
			if !isSQL {
				continue
			}
			read++
			if sql := query(name); strings.ContainsAny(strings.ReplaceAll(sql, "'{}'", ""), "{}") {
				t.Errorf("%s.sql: a name in braces stands for nothing", name)
			}
			if step, ok := strings.CutPrefix(name, "schema/"); ok && !slices.ContainsFunc(migrations, func(m migration) bool { return slices.Contains(m.files, step) }) {
				t.Errorf("%s.sql: no migration has it", name)
			}
		}
	}
	if read < 20 {
		t.Errorf("%d files of SQL were found", read)
	}
}
