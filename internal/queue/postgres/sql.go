package postgres

import (
	"embed"
	"fmt"
	"strings"

	"github.com/hubhook/hubhook/internal/queue/store"
)

// files holds a statement or a function each. In their text, {done} stands for the number of a state, {row.lost} for the reason of a
// row, {columns} for those of a delivery d, and @name for a parameter.
//
//go:embed sql
var files embed.FS

// noContent takes the places of a row's serial key, merged deliveries and content where they are not asked for.
const noContent = "NULL::bigint, NULL::uuid[], NULL::bytea, NULL::bytea, NULL::smallint"

var placeholders = func() *strings.Replacer {
	pairs := []string{"{columns}", strings.TrimSpace(embedded("columns")), "{no content}", noContent}
	for name, reason := range rowReasons {
		pairs = append(pairs, "{row."+name+"}", fmt.Sprint(reason))
	}
	return strings.NewReplacer(pairs...)
}()

// query returns the SQL of an embedded file.
func query(name string) string { return store.NumberStates(placeholders.Replace(embedded(name))) }

func embedded(name string) string {
	b, err := files.ReadFile("sql/" + name + ".sql")
	if err != nil {
		panic(err) // it is embedded, or this is no name
	}
	return string(b)
}
