package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

const module = "example.com/m"

// file makes a source from mentions. A mention with a slash or without a dot is an import path; others are names that the file uses.
// A mention that begins with "./" is a package of this module ("./" alone its root).
func file(name string, k kind, mentions ...string) source {
	src := source{file: name, kind: k}
	for i, m := range mentions {
		ours, isOurs := strings.CutPrefix(m, "./")
		switch {
		case isOurs && ours == "":
			src.imports = append(src.imports, mention{module, i + 1})
		case isOurs:
			src.imports = append(src.imports, mention{module + "/" + ours, i + 1})
		case strings.Contains(m, "/") || !strings.Contains(m, "."):
			src.imports = append(src.imports, mention{m, i + 1})
		default:
			src.names = append(src.names, mention{m, i + 1})
		}
	}
	return src
}

func TestCheckAllows(t *testing.T) {
	for _, src := range []source{
		file("main.go", code, "./internal/cli", "os", "os.Exit", "os.Args", "os.Stdout"),
		file("internal/cli/serve.go", code, "./internal/action", "./server", "./ui/inspector", "./internal/queue", "./tunnel", "./hub", "github.com/spf13/cobra", "github.com/spf13/pflag", "os.Stdout", "fmt.Println"),
		file("internal/action/command.go", code, "./server", "./payload"),
		file("server/server.go", code, "./ui", "./ui/inspector", "./internal/queue", "./payload", "./tunnel", "./hub", "github.com/gorilla/mux", "flag"),
		file("server/main.go", code, "os.Exit", "os.Stdout"),
		file("ui/home.go", code, "./payload", "github.com/gorilla/mux", "github.com/fatih/color", "os.Stdout"),
		file("ui/inspector/api.go", code, "./internal/queue", "./payload", "github.com/gorilla/mux"),
		file("internal/queue/sqlite/sqlite.go", code, "./internal/queue/sqlite/salvage", "./internal/queue/store/datadir", "database/sql", "modernc.org/sqlite", "modernc.org/sqlite/lib"),
		file("internal/queue/postgres/postgres.go", code, "./internal/queue/store", "github.com/jackc/pgx/v5"),
		file("tunnel/life.go", code, "./tunnel/internal/machine", "./internal/text", "net/http", "os.Getenv"),
		file("tunnel/ngrok/session.go", code, "./tunnel", "./tunnel/internal/terms", "golang.ngrok.com/ngrok/v2", "net/http", "os.Getenv", "log.Printf"),
		file("tunnel/life_test.go", internalTest, "./tunnel/internal/machine/machinetest"),
		file("tunnel/ngrok/ngrok_test.go", externalTest, "./tunnel/tunneltest", "golang.ngrok.com/ngrok/v2"),
		file("tunnel/tunneltest/edge.go", code, "./tunnel", "golang.ngrok.com/muxado/v2"),
		file("internal/tools/bench/main.go", code, "./server", "./tunnel/tunneltest", "database/sql", "flag", "os.Exit", "fmt.Println"),
		file("internal/tools/bench/load/load.go", code, "./internal/queue"),
		file("internal/tools/bench/main.go", code, "./internal/tools/bench/load"),
		file("docs/examples/hello/main.go", code, "./server", "./payload", "os.Exit"),
		file("internal/testing/needs/needs.go", code, "testing", "os.Args"),
		file("internal/testing/pgserver/pgserver.go", code, "./internal/testing/needs", "github.com/jackc/pgx/v5"),
		file("internal/tools/bench/roles.go", code, "./internal/testing/pgserver"),

		file("internal/queue/queue_test.go", internalTest, "./internal/testing/needs", "./internal/queue/store/storetest", "os.Exit", "fmt.Println"),
		file("server/server_test.go", internalTest, "./tunnel/tunneltest", "./hub/hubtest", "database/sql"),
		file("internal/queue/example_test.go", externalTest, "./server", "./internal/cli"),
		file("main_test.go", externalTest, "./", "./internal/testing/needs", "modernc.org/sqlite"),
	} {
		if broken := check(module, []source{src}); broken != nil {
			t.Errorf("%s: want nothing, have\n%s", src.file, strings.Join(broken, "\n"))
		}
	}
}

func TestCheckForbids(t *testing.T) {
	for _, test := range []struct {
		src  source
		want string
	}{
		// An arrow back or sideways.
		{file("payload/parse.go", code, "./internal/queue"), "payload/parse.go:1: payload imports example.com/m/internal/queue: payload imports nothing of ours but internal/text"},
		{file("internal/queue/commit.go", code, "net", "./ui"), "internal/queue/commit.go:2: internal/queue imports example.com/m/ui: internal/queue imports nothing of ours but internal/queue/sqlite, internal/queue/sqlite/salvage, internal/queue/postgres, internal/queue/store, payload and leaves"},
		{file("internal/queue/sqlite/sqlite.go", code, "./internal/queue"), "internal/queue/sqlite/sqlite.go:1: internal/queue/sqlite imports example.com/m/internal/queue: internal/queue/sqlite imports nothing of ours but internal/queue/sqlite/salvage, internal/queue/store, payload and leaves"},
		{file("internal/queue/postgres/postgres.go", code, "./internal/queue/sqlite"), "internal/queue/postgres/postgres.go:1: internal/queue/postgres imports example.com/m/internal/queue/sqlite: internal/queue/postgres imports nothing of ours but internal/queue/store, payload and leaves"},
		{file("internal/queue/sqlite/salvage/pages.go", code, "./internal/queue/sqlite"), "internal/queue/sqlite/salvage/pages.go:1: internal/queue/sqlite/salvage imports example.com/m/internal/queue/sqlite: internal/queue/sqlite/salvage imports nothing of ours but internal/queue/store, payload and leaves"},
		{file("internal/queue/store/store.go", code, "./internal/queue/postgres"), "internal/queue/store/store.go:1: internal/queue/store imports example.com/m/internal/queue/postgres: internal/queue/store imports nothing of ours but payload and leaves"},
		{file("internal/api/delivery.go", code, "./internal/text"), "internal/api/delivery.go:1: internal/api imports example.com/m/internal/text: internal/api imports nothing of ours but payload and leaves"},
		{file("hub/client.go", code, "./tunnel"), "hub/client.go:1: hub imports example.com/m/tunnel: hub imports nothing of ours but payload and leaves"},
		{file("ui/home.go", code, "./server"), "ui/home.go:1: ui imports example.com/m/server: ui imports nothing of ours but internal/queue, internal/queue/sqlite, internal/queue/sqlite/salvage, internal/queue/postgres, internal/queue/store, payload and leaves"},
		{file("ui/home.go", code, "./ui/inspector"), "ui/home.go:1: ui imports example.com/m/ui/inspector: ui imports nothing of ours but internal/queue, internal/queue/sqlite, internal/queue/sqlite/salvage, internal/queue/postgres, internal/queue/store, payload and leaves"},
		{file("ui/inspector/api.go", code, "./ui"), "ui/inspector/api.go:1: ui/inspector imports example.com/m/ui: ui/inspector imports nothing of ours but internal/queue, internal/queue/sqlite, internal/queue/sqlite/salvage, internal/queue/postgres, internal/queue/store, payload and leaves"},
		{file("server/run.go", code, "./internal/action"), "server/run.go:1: server imports example.com/m/internal/action: server imports nothing of ours but ui, ui/inspector, tunnel, tunnel/ngrok, tunnel/ssh, tunnel/cloudflared, hub, hub/keep, hub/follow, internal/companion, internal/checkup, internal/queue, internal/queue/sqlite, internal/queue/sqlite/salvage, internal/queue/postgres, internal/queue/store, payload and leaves"},
		{file("internal/action/file.go", code, "./internal/cli"), "internal/action/file.go:1: internal/action imports example.com/m/internal/cli: internal/action imports nothing of ours but server, ui, ui/inspector, tunnel, tunnel/ngrok, tunnel/ssh, tunnel/cloudflared, hub, hub/keep, hub/follow, internal/companion, internal/checkup, internal/queue, internal/queue/sqlite, internal/queue/sqlite/salvage, internal/queue/postgres, internal/queue/store, payload and leaves"},
		{file("payload/parse.go", code, "./"), "payload/parse.go:1: payload imports example.com/m: payload imports nothing of ours but internal/text"},
		{file("tunnel/life.go", code, "./tunnel/ngrok"), "tunnel/life.go:1: tunnel imports example.com/m/tunnel/ngrok: tunnel imports nothing of ours but payload and leaves"},
		{file("tunnel/ssh/ssh.go", code, "./tunnel/ngrok"), "tunnel/ssh/ssh.go:1: tunnel/ssh imports example.com/m/tunnel/ngrok: tunnel/ssh imports nothing of ours but tunnel, payload and leaves"},
		{file("tunnel/tunneltest/edge.go", code, "./hub"), "tunnel/tunneltest/edge.go:1: tunnel/tunneltest imports example.com/m/hub: tunnel/tunneltest imports nothing of ours but tunnel, payload and leaves"},
		{file("internal/queue/queue_test.go", internalTest, "./server"), "internal/queue/queue_test.go:1: internal/queue imports example.com/m/server: internal/queue imports nothing of ours but internal/queue/sqlite, internal/queue/sqlite/salvage, internal/queue/postgres, internal/queue/store, payload and leaves"},

		// Imports of packages for tests, and of programs.
		{file("server/run.go", code, "./tunnel/tunneltest"), "server/run.go:1: server imports example.com/m/tunnel/tunneltest: a test double is for tests alone"},
		{file("tunnel/ngrok/ngrok.go", code, "./tunnel/tunneltest"), "tunnel/ngrok/ngrok.go:1: tunnel/ngrok imports example.com/m/tunnel/tunneltest: a test double is for tests alone"},
		{file("internal/queue/store.go", code, "./internal/testing/needs"), "internal/queue/store.go:1: internal/queue imports example.com/m/internal/testing/needs: it is for tests alone"},
		{file("server/run.go", code, "./internal/tools/bench/load"), "server/run.go:1: server imports example.com/m/internal/tools/bench/load: a program of its own is nobody's library"},
		{file("docs/examples/hello/main.go", code, "./internal/cli"), "docs/examples/hello/main.go:1: docs/examples/hello imports example.com/m/internal/cli: users who copy an example cannot import internal packages"},

		// Uses that one package keeps to itself.
		{file("server/run.go", code, "golang.ngrok.com/ngrok/v2"), "server/run.go:1: server uses golang.ngrok.com/ngrok/v2: the ngrok SDK stays in tunnel/ngrok and tunnel/tunneltest"},
		{file("tunnel/life.go", code, "golang.ngrok.com/ngrok/v2"), "tunnel/life.go:1: tunnel uses golang.ngrok.com/ngrok/v2: the ngrok SDK stays in tunnel/ngrok and tunnel/tunneltest"},
		{file("ui/inspector/api.go", code, "database/sql"), "ui/inspector/api.go:1: ui/inspector uses database/sql: SQL stays in internal/queue"},
		{file("internal/cli/hub.go", code, "modernc.org/sqlite"), "internal/cli/hub.go:1: internal/cli uses modernc.org/sqlite: SQL stays in internal/queue"},
		{file("internal/cli/serve.go", code, "github.com/gorilla/mux"), "internal/cli/serve.go:1: internal/cli uses github.com/gorilla/mux: gorilla/mux stays in server and ui"},
		{file("server/run.go", code, "github.com/fatih/color"), "server/run.go:1: server uses github.com/fatih/color: fatih/color stays in ui"},
		{file("server/run.go", code, "github.com/google/go-containerregistry/pkg/v1"), "server/run.go:1: server uses github.com/google/go-containerregistry/pkg/v1: making images stays in internal/tools"},
		{file("server/main.go", code, "github.com/spf13/cobra"), "server/main.go:1: server uses github.com/spf13/cobra: cobra stays in internal/cli"},
		{file("internal/action/run.go", code, "flag"), "internal/action/run.go:1: internal/action uses flag: reading flags stays in main, internal/cli and server"},
		{file("hub/token.go", code, "os.Args"), "hub/token.go:1: hub uses os.Args: reading flags stays in main, internal/cli and server"},
		{file("internal/queue/store.go", code, "os.Exit"), "internal/queue/store.go:1: internal/queue uses os.Exit: leaving the process stays in main, internal/cli and server"},
		{file("tunnel/life.go", code, "log.Fatalf"), "tunnel/life.go:1: tunnel uses log.Fatalf: leaving the process stays in main, internal/cli and server"},
		{file("payload/sample.go", code, "os.Stdout"), "payload/sample.go:1: payload uses os.Stdout: standard output stays in main, internal/cli, server and ui"},
		{file("ui/lines.go", code, "fmt.Println"), "ui/lines.go:1: ui uses fmt.Println: printing to standard output stays in main and internal/cli"},

		// A package without a place.
		{file("store/store.go", code, "os.Exit"), "store/store.go: the layout has no place for a package store: give it one in internal/tools/walls/rules.go, with what it may import, or move its code to a package that has one"},
		{file("internal/util/util.go", code), "internal/util/util.go: the layout has no place for a package internal/util: give it one in internal/tools/walls/rules.go, with what it may import, or move its code to a package that has one"},
		{file("main.go", code, "./store"), "main.go:1: . imports example.com/m/store: the layout has no place for it"},
	} {
		if got := check(module, []source{test.src}); !slices.Equal(got, []string{test.want}) {
			t.Errorf("have %q\nwant %q", got, test.want)
		}
	}
}

func TestCheckNamesAnUnplacedPackageOnce(t *testing.T) {
	got := check(module, []source{file("store/a.go", code), file("store/b.go", code), file("internal/queue/a.go", code, "os.Exit")})
	if len(got) != 2 || !strings.HasPrefix(got[0], "store/a.go: ") || !strings.HasPrefix(got[1], "internal/queue/a.go:1: ") {
		t.Errorf("want one line for store and one for queue, have %q", got)
	}
}

// The rules must name places that exist: a typing error would forbid nothing and allow nothing.
func TestPlacesKnowEachOther(t *testing.T) {
	above := make(map[string]bool)
	for _, p := range places {
		above[p.dir] = true
		for _, imported := range p.imports {
			if !slices.ContainsFunc(places, func(q place) bool { return q.dir == imported }) {
				t.Errorf("%s may import %s, which is no place", p.dir, imported)
			}
			if above[imported] {
				t.Errorf("%s may import %s, which stands above it", p.dir, imported)
			}
		}
	}
	for _, f := range fences {
		for _, in := range f.in {
			if !slices.ContainsFunc(places, func(q place) bool { return q.dir == in }) {
				t.Errorf("%s stays in %s, which is no place", f.what, in)
			}
		}
	}
}

func TestParse(t *testing.T) {
	const text = `package queue

import (
	"database/sql"
	"os"
	stop "log"
	_ "modernc.org/sqlite"
)

type options struct{ Exit func() }

func run(o options) {
	o.Exit() // a method of ours, not a name of package os
	stop.Fatal(sql.ErrNoRows)
	os.Exit(1)
}
`
	for _, test := range []struct {
		file, text string
		want       kind
	}{
		{"queue/run.go", text, code},
		{"queue/run_test.go", text, internalTest},
		{"queue/run_test.go", strings.Replace(text, "package queue", "package queue_test", 1), externalTest},
	} {
		src, err := parse(test.file, test.text)
		if err != nil {
			t.Fatal(err)
		}
		if src.file != test.file || src.kind != test.want {
			t.Errorf("have file %s of kind %d, want %s of kind %d", src.file, src.kind, test.file, test.want)
		}
		if want := []mention{{"database/sql", 4}, {"os", 5}, {"log", 6}, {"modernc.org/sqlite", 7}}; !slices.Equal(src.imports, want) {
			t.Errorf("have imports %v, want %v", src.imports, want)
		}
		if want := []mention{{"log.Fatal", 14}, {"database/sql.ErrNoRows", 14}, {"os.Exit", 15}}; !slices.Equal(src.names, want) {
			t.Errorf("have names %v, want %v", src.names, want)
		}
	}
	if _, err := parse("queue/broken.go", "package queue; import ("); err == nil || !strings.Contains(err.Error(), "queue/broken.go") {
		t.Errorf("have error %v, want one that names the file", err)
	}
}

func TestCheckDependencies(t *testing.T) {
	var mod goMod
	mod.Require = []struct {
		Path     string
		Indirect bool
	}{{"example.com/direct", false}, {"example.com/new", false}, {"example.com/far", true}, {"example.com/lint", true}}
	mod.Tool = []struct{ Path string }{{"example.com/lint/cmd/lint"}}
	const page = "Text about `example.com/nothing`.\n\n| module | for |\n|---|---|\n| `example.com/direct` | a reason |\n" +
		"| `example.com/lint` | a tool |\n| `example.com/gone` | no reason left |\n"

	got := checkDependencies(mod, page)
	want := []string{
		"docs/dependencies.md: has no line for example.com/new, which go.mod requires: say what it is for, and its licence",
		"docs/dependencies.md: has a line for example.com/gone, which go.mod does not require directly: remove it",
	}
	if !slices.Equal(got, want) {
		t.Errorf("have %q\nwant %q", got, want)
	}
}

// A check that finds no files finds no violations either.
func TestLoadFindsThisPackage(t *testing.T) {
	t.Chdir("../../..")
	if _, err := os.Stat("go.mod"); err != nil {
		t.Fatal(err)
	}
	sources, err := load()
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]kind{"internal/tools/walls/main.go": code, "internal/tools/walls/walls_test.go": internalTest} {
		if !slices.ContainsFunc(sources, func(s source) bool { return s.file == file && s.kind == want }) {
			t.Errorf("%s of kind %d is not among the %d files found", file, want, len(sources))
		}
	}
}
