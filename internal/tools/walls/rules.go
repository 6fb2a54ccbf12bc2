package main

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// A place is a package of the module ("." for its root) and everything below the package that is no place itself.
type place struct {
	dir string
	// imports are the places it may import. Below one place, packages import each other as they like.
	imports []string
	// program marks commands outside the layers: they may import and use anything, and nothing imports them.
	program bool
	// copied marks programs that users copy into their own modules. Those modules can't import internal packages.
	copied bool
}

// leaves may be imported by every place, except that payload may import internal/text alone. Of this module, they import payload alone.
var leaves = []string{"internal/api", "internal/env", "internal/freeport", "internal/jobobject", "internal/text", "internal/version"}

// rooms are the layers from the inside of the house out, each with what it may import beside payload and the leaves. An arrow goes
// down, never back or sideways.
var (
	engines = []string{"internal/queue/store"}
	queue   = append([]string{"internal/queue/sqlite", "internal/queue/sqlite/salvage", "internal/queue/postgres"}, engines...)
	faces   = append([]string{"internal/queue"}, queue...)
	server  = append([]string{"ui", "ui/inspector", "tunnel", "tunnel/ngrok", "tunnel/ssh", "tunnel/cloudflared", "hub", "hub/keep", "hub/follow", "internal/companion", "internal/checkup"}, faces...)
	action  = append([]string{"server"}, server...)
	cli     = append([]string{"internal/action"}, action...)
)

// places is the layout, from the command at the top down to the leaves.
var places = []place{
	{dir: ".", imports: append([]string{"internal/cli"}, cli...)},
	{dir: "internal/cli", imports: cli},
	{dir: "internal/action", imports: action},
	{dir: "server/servertest", imports: []string{"server", "internal/queue"}},
	{dir: "server", imports: server},
	{dir: "ui", imports: faces},
	{dir: "ui/inspector", imports: faces},
	{dir: "internal/queue", imports: queue},
	{dir: "internal/queue/sqlite", imports: append([]string{"internal/queue/sqlite/salvage"}, engines...)},
	{dir: "internal/queue/sqlite/salvage", imports: engines},
	{dir: "internal/queue/postgres", imports: engines},
	{dir: "internal/queue/store"},
	{dir: "payload", imports: []string{"internal/text"}},
	{dir: "tunnel/ngrok", imports: []string{"tunnel"}},
	{dir: "tunnel/ssh", imports: []string{"tunnel"}},
	{dir: "tunnel/cloudflared", imports: []string{"tunnel"}},
	{dir: "tunnel/tunneltest", imports: []string{"tunnel"}},
	{dir: "tunnel"},
	{dir: "hub/keep", imports: []string{"hub"}},
	{dir: "hub/follow", imports: []string{"hub"}},
	{dir: "hub"},
	{dir: "hub/hubtest/cmd", program: true}, // the stand-in Hub for people who test by hand
	{dir: "internal/companion"},
	{dir: "internal/checkup"},
	{dir: "internal/api"},
	{dir: "internal/env"},
	{dir: "internal/freeport"},
	{dir: "internal/jobobject"},
	{dir: "internal/text"},
	{dir: "internal/version"},
	{dir: "internal/testing"},
	{dir: "internal/tools", program: true},
	{dir: "internal/e2e", program: true}, // tests of the built binary, with the programs that they run
	{dir: "docs/examples", program: true, copied: true},
}

// testOnly are places that only tests and programs may import: Chromium and PostgreSQL servers for tests, the check for programs that tests
// need, and the end of a started program's output.
var testOnly = []string{"internal/testing"}

// A fence keeps imports, or uses of names in the standard library, inside some directories of the module.
type fence struct {
	what string   // in messages
	of   []string // import paths with all below them, or qualified names such as "os.Exit"
	in   []string // the directories, with all below them
}

// fences hold for the code of the program. Tests may read databases, print and exit.
var fences = []fence{
	{"the ngrok SDK", []string{"golang.ngrok.com"}, []string{"tunnel/ngrok", "tunnel/tunneltest"}},
	{"x/crypto/ssh", []string{"golang.org/x/crypto/ssh"}, []string{"tunnel/ssh", "tunnel/tunneltest"}},
	{"SQL", []string{"database/sql", "modernc.org/sqlite", "github.com/jackc/pgx", "github.com/lib/pq"}, []string{"internal/queue"}},
	{"gorilla/mux", []string{"github.com/gorilla/mux"}, []string{"server", "ui"}},
	{"fatih/color", []string{"github.com/fatih/color"}, []string{"ui"}},
	{"making images", []string{"github.com/google/go-containerregistry", "golang.org/x/crypto/x509roots"}, []string{"internal/tools"}},
	{"cobra", []string{"github.com/spf13/cobra"}, []string{"internal/cli"}},
	{"the SDK of the Model Context Protocol", []string{"github.com/modelcontextprotocol", "github.com/google/jsonschema-go"}, []string{"internal/cli"}},
	// server.Main is a whole program for those who write handlers in Go: it reads serve's flags and has an exit status.
	{"reading flags", []string{"flag", "github.com/spf13/pflag", "os.Args"}, []string{".", "internal/cli", "server"}},
	{"leaving the process", []string{"os.Exit", "syscall.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln"}, []string{".", "internal/cli", "server"}},
	// Config.Output of server and ui is os.Stdout unless the caller says otherwise.
	{"standard output", []string{"os.Stdout"}, []string{".", "internal/cli", "server", "ui"}},
	{"printing to standard output", []string{"fmt.Print", "fmt.Printf", "fmt.Println"}, []string{".", "internal/cli"}},
}

// kind tells the code of a package from its tests.
type kind int

const (
	code         kind = iota
	internalTest      // a _test.go file of the package itself
	externalTest      // a _test.go file of the package NAME_test
)

// A source is the part of one Go file that the rules are about.
type source struct {
	file    string // relative to the module's root, with slashes
	kind    kind
	imports []mention // import paths
	names   []mention // qualified names of imported packages, such as "os.Exit"
}

// A mention is one import path or qualified name, with its line.
type mention struct {
	what string
	line int
}

// check returns one message for each mention that breaks a rule, in the order of sources.
func check(module string, sources []source) []string {
	var broken []string
	unplaced := make(map[string]bool)
	for _, src := range sources {
		dir := path.Dir(src.file)
		from, ok := placeOf(dir)
		if !ok {
			if !unplaced[dir] {
				unplaced[dir] = true
				broken = append(broken, fmt.Sprintf("%s: the layout has no place for a package %s: give it one in internal/tools/walls/rules.go, with what it may import, or move its code to a package that has one",
					src.file, dir))
			}
			continue
		}
		for _, imported := range src.imports {
			if rule := arrowBroken(module, dir, from, src.kind, imported.what); rule != "" {
				broken = append(broken, fmt.Sprintf("%s:%d: %s imports %s: %s", src.file, imported.line, dir, imported.what, rule))
			}
		}
		if src.kind != code || from.program || slices.Contains(testOnly, from.dir) {
			continue
		}
		for _, m := range slices.Concat(src.imports, src.names) {
			if f, ok := fenceBroken(dir, m.what); ok {
				broken = append(broken, fmt.Sprintf("%s:%d: %s uses %s: %s stays in %s", src.file, m.line, dir, m.what, f.what, list(f.in)))
			}
		}
	}
	return broken
}

// arrowBroken returns the rule that an import breaks, "" for none.
func arrowBroken(module, dir string, from place, k kind, imported string) string {
	if imported != module && !within(imported, module) {
		return "" // not ours
	}
	to := strings.TrimPrefix(strings.TrimPrefix(imported, module), "/")
	if to == "" {
		to = "."
	}
	target, ok := placeOf(to)
	switch {
	case !ok:
		return "the layout has no place for it"
	case target.program && target.dir != from.dir:
		return "a program of its own is nobody's library"
	case from.copied && within(to, "internal"):
		return "users who copy an example cannot import internal packages"
	case from.program:
		return ""
	case k == externalTest:
		return "" // an external test is outside its package, as a user is
	case slices.Contains(testOnly, target.dir):
		if k == code && !slices.Contains(testOnly, from.dir) {
			return "it is for tests alone"
		}
		return ""
	case isDouble(to) && !isDouble(dir):
		if k == code {
			return "a test double is for tests alone"
		}
		return ""
	case target.dir == from.dir || slices.Contains(from.imports, target.dir):
		return ""
	case from.dir == "payload":
		return from.dir + " imports nothing of ours but " + strings.Join(from.imports, ", ")
	case target.dir == "payload" || slices.Contains(leaves, target.dir) && !slices.Contains(leaves, from.dir):
		return ""
	case len(from.imports) == 0:
		return from.dir + " imports nothing of ours but payload and leaves"
	default:
		return fmt.Sprintf("%s imports nothing of ours but %s, payload and leaves", from.dir, strings.Join(from.imports, ", "))
	}
}

// fenceBroken returns the fence that keeps dir from using what, if there is one.
func fenceBroken(dir, what string) (fence, bool) {
	for _, f := range fences {
		fenced := slices.ContainsFunc(f.of, func(of string) bool { return within(what, of) })
		inside := slices.ContainsFunc(f.in, func(in string) bool { return dir == in || in != "." && within(dir, in) })
		if fenced && !inside {
			return f, true
		}
	}
	return fence{}, false
}

// placeOf returns the nearest place at or above dir. The root is a place for itself alone: otherwise every package would have a place.
func placeOf(dir string) (place, bool) {
	var nearest place
	found := false
	for _, p := range places {
		if (dir == p.dir || p.dir != "." && within(dir, p.dir)) && (!found || len(p.dir) > len(nearest.dir)) {
			nearest, found = p, true
		}
	}
	return nearest, found
}

// isDouble reports whether dir holds test doubles of the package above it, as tunnel/tunneltest does.
func isDouble(dir string) bool {
	return strings.Contains(dir, "/") && path.Base(dir) == path.Base(path.Dir(dir))+"test"
}

// within reports whether the slash-separated name is parent or is below it.
func within(name, parent string) bool {
	return name == parent || strings.HasPrefix(name, parent+"/")
}

// list joins names as English does.
func list(names []string) string {
	quoted := slices.Clone(names)
	if i := slices.Index(quoted, "."); i >= 0 {
		quoted[i] = "main"
	}
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " and " + quoted[len(quoted)-1]
}
