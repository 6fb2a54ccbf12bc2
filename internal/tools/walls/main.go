// Command walls checks what the compiler does not: that packages import each other only in the direction of the layout, that the ngrok
// SDK, SQL, routing, colour, flags, standard output and exits stay in the packages that own them (rules.go), and that
// docs/dependencies.md has a line for each module that go.mod requires directly, or that of the benchmark's rivals, and no other.
//
//	go run ./internal/tools/walls
//
// It runs in the module's root and prints a line for each violation. It exits 1 if there is one, 2 if the check itself failed.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// dependencies is the page that says what each module is for.
const dependencies = "docs/dependencies.md"

// rivals is the go.mod of the benchmark's rivals. It is a module of its own: the imports in it are not checked, since it cannot import ours
// without a line in that file.
const rivals = "internal/tools/bench/rivals/go.mod"

func main() {
	broken, err := run()
	if err != nil {
		fmt.Fprintf(os.Stderr, "walls: %v\n", err)
		os.Exit(2)
	}
	for _, b := range broken {
		fmt.Fprintln(os.Stderr, b)
	}
	if len(broken) > 0 {
		os.Exit(1)
	}
}

// run checks the module in the working directory and returns the violations.
func run() ([]string, error) {
	var mod goMod
	if err := goJSON(&mod, "mod", "edit", "-json"); err != nil {
		return nil, err
	}
	var benchmark goMod
	if err := goJSON(&benchmark, "mod", "edit", "-json", rivals); err != nil {
		return nil, err
	}
	mod.Require = append(mod.Require, benchmark.Require...)
	sources, err := load()
	if err != nil {
		return nil, err
	}
	page, err := os.ReadFile(dependencies)
	if err != nil {
		return nil, fmt.Errorf("read what the dependencies are for: %w", err)
	}
	return append(check(mod.Module.Path, sources), checkDependencies(mod, string(page))...), nil
}

// load reads every Go file of the module's packages, files for other systems included.
func load() ([]source, error) {
	out, err := goOutput("list", "-e", "-json=Dir,GoFiles,CgoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles", "./...")
	if err != nil {
		return nil, err
	}
	root, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("find the module's root: %w", err)
	}
	var sources []source
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg struct {
			Dir                                                          string
			GoFiles, CgoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles []string
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read the output of go list: %w", err)
		}
		dir, err := filepath.Rel(root, pkg.Dir)
		if err != nil {
			return nil, fmt.Errorf("place the package in %s: %w", pkg.Dir, err)
		}
		for _, name := range slices.Concat(pkg.GoFiles, pkg.CgoFiles, pkg.IgnoredGoFiles, pkg.TestGoFiles, pkg.XTestGoFiles) {
			src, err := parse(path.Join(filepath.ToSlash(dir), name), nil)
			if err != nil {
				return nil, err
			}
			sources = append(sources, src)
		}
	}
	if len(sources) == 0 {
		return nil, errors.New("go list found no packages: run it in the module's root")
	}
	return sources, nil
}

// parse reads the imports of one file, and the names of imported packages that the file uses. If text is nil, parse reads the file.
func parse(file string, text any) (source, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, filepath.FromSlash(file), text, parser.SkipObjectResolution)
	if err != nil {
		return source{}, fmt.Errorf("parse: %w", err)
	}
	line := func(n ast.Node) int { return fset.Position(n.Pos()).Line }

	src := source{file: file}
	if strings.HasSuffix(file, "_test.go") {
		src.kind = internalTest
		if strings.HasSuffix(f.Name.Name, "_test") {
			src.kind = externalTest
		}
	}
	imported := make(map[string]string) // path by local name
	for _, spec := range f.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return source{}, fmt.Errorf("parse %s: import %s: %w", file, spec.Path.Value, err)
		}
		src.imports = append(src.imports, mention{p, line(spec)})
		name := path.Base(p) // right for the standard library, the only place where names are fenced
		if spec.Name != nil {
			name = spec.Name.Name
		}
		imported[name] = p
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && imported[x.Name] != "" {
				src.names = append(src.names, mention{imported[x.Name] + "." + sel.Sel.Name, line(sel)})
			}
		}
		return true
	})
	return src, nil
}

// goMod has the fields of `go mod edit -json` that walls uses.
type goMod struct {
	Module  struct{ Path string }
	Require []struct {
		Path     string
		Indirect bool
	}
	Tool []struct{ Path string }
}

// direct returns the modules that our packages import or that bring a tool.
func (m goMod) direct() []string {
	var paths []string
	for _, r := range m.Require {
		isTool := slices.ContainsFunc(m.Tool, func(t struct{ Path string }) bool { return within(t.Path, r.Path) })
		if !r.Indirect || isTool {
			paths = append(paths, r.Path)
		}
	}
	return paths
}

// checkDependencies compares go.mod with the table in page, whose rows begin with a module's path in backquotes.
func checkDependencies(mod goMod, page string) []string {
	var documented, broken []string
	for line := range strings.Lines(page) {
		if row, ok := strings.CutPrefix(line, "| `"); ok {
			module, _, _ := strings.Cut(row, "`")
			documented = append(documented, module)
		}
	}
	direct := mod.direct()
	for _, module := range direct {
		if !slices.Contains(documented, module) {
			broken = append(broken, fmt.Sprintf("%s: has no line for %s, which go.mod requires: say what it is for, and its licence", dependencies, module))
		}
	}
	for _, module := range documented {
		if !slices.Contains(direct, module) {
			broken = append(broken, fmt.Sprintf("%s: has a line for %s, which go.mod does not require directly: remove it", dependencies, module))
		}
	}
	return broken
}

// goJSON runs the go command and decodes the JSON that it prints into v.
func goJSON(v any, args ...string) error {
	out, err := goOutput(args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, v); err != nil {
		return fmt.Errorf("read the output of go %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// goOutput runs the go command and returns what it prints.
func goOutput(args ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("go", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
