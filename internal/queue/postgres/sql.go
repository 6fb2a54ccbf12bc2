package postgres

import (
	"embed"
	"fmt"
	"strings"
	"sync"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// files has one statement or function in each file. In their text, {done} stands for the number of a state, {row.lost} for the kind of a
// row, {columns} for the columns of a delivery d, and @name for a parameter.
//
//go:embed sql
var files embed.FS

// noContent is in the place of the serial key, merged deliveries and content, in queries that leave these out.
const noContent = "NULL::bigint, NULL::uuid[], NULL::bytea, NULL::bytea, NULL::smallint"

var placeholders = func() *strings.Replacer {
	pairs := []string{"{columns}", strings.TrimSpace(embedded("columns")), "{no content}", noContent}
	for name, kind := range rowKinds {
		pairs = append(pairs, "{row."+name+"}", fmt.Sprint(kind))
	}
	return strings.NewReplacer(pairs...)
}()

// query returns the SQL of an embedded file, with its {placeholders} replaced.
func query(name string) string {
	if sql, ok := queries.Load(name); ok {
		return sql.(string)
	}
	sql := store.NumberStates(placeholders.Replace(embedded(name)))
	queries.Store(name, sql)
	return sql
}

var queries sync.Map // the SQL of files that were asked for, by name

func embedded(name string) string {
	b, err := files.ReadFile("sql/" + name + ".sql")
	if err != nil {
		panic(err) // no file has that name
	}
	return string(b)
}
