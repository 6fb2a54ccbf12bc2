package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// code is the source of the packages whose comments are documentation.
type code struct {
	fset  *token.FileSet
	files map[string][]*ast.File // by directory
}

// readCode parses those packages.
func readCode(root string) (*code, error) {
	c := &code{fset: token.NewFileSet(), files: map[string][]*ast.File{}}
	for _, dir := range []string{"internal/api", "internal/cli", "internal/env", "server", "ui/inspector"} {
		paths, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			file, err := parser.ParseFile(c.fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			c.files[dir] = append(c.files[dir], file)
		}
		if c.files[dir] == nil {
			return nil, fmt.Errorf("%s has no Go file", filepath.Join(root, dir))
		}
	}
	return c, nil
}

// text returns the text that an expression is: a literal, or a constant of the package. It is "" for anything else.
func (c *code) text(dir string, e ast.Expr) string {
	if name, ok := e.(*ast.Ident); ok {
		for _, file := range c.files[dir] {
			for _, decl := range file.Decls {
				if group, ok := decl.(*ast.GenDecl); ok && group.Tok == token.CONST {
					for _, spec := range group.Specs {
						if v := spec.(*ast.ValueSpec); v.Names[0].Name == name.Name && len(v.Values) == 1 {
							e = v.Values[0]
						}
					}
				}
			}
		}
	}
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	text, _ := strconv.Unquote(lit.Value) // the parser has seen that it is right
	return text
}

// constant is a declared constant with its comment.
type constant struct{ name, value, comment string }

// constants returns those of a package whose name begins with prefix, in the order of the files.
func (c *code) constants(dir, prefix string) ([]constant, error) {
	var list []constant
	for _, file := range c.files[dir] {
		for _, decl := range file.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok || group.Tok != token.CONST {
				continue
			}
			for _, spec := range group.Specs {
				v := spec.(*ast.ValueSpec)
				if len(v.Values) != 1 || !strings.HasPrefix(v.Names[0].Name, prefix) {
					continue
				}
				lit, ok := v.Values[0].(*ast.BasicLit)
				if !ok {
					continue
				}
				value := lit.Value
				if lit.Kind == token.STRING {
					value, _ = strconv.Unquote(value)
				}
				said := comment(v.Doc, v.Comment)
				if said == "" {
					return nil, fmt.Errorf("%s has no comment", v.Names[0].Name)
				}
				list = append(list, constant{v.Names[0].Name, value, said})
			}
		}
	}
	if list == nil {
		return nil, fmt.Errorf("%s has no constant that begins with %s", dir, prefix)
	}
	return list, nil
}

// comment returns the text of the first comment that is there, on one line.
func comment(groups ...*ast.CommentGroup) string {
	for _, g := range groups {
		if text := strings.Join(strings.Fields(g.Text()), " "); text != "" {
			return text
		}
	}
	return ""
}

func (c *code) exitStatuses() ([]string, error) {
	list, err := c.constants("internal/cli", "exit")
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for _, status := range list {
		rows = append(rows, []string{status.value, status.comment})
	}
	return table([]string{"status", "means"}, rows), nil
}

func (c *code) variables() ([]string, error) {
	list, err := c.constants("internal/env", "")
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for _, v := range list {
		rows = append(rows, []string{"`" + v.value + "`", v.comment})
	}
	return table([]string{"variable", "means"}, rows), nil
}

// lines are the types of the lines of --json.
func (c *code) lines() ([]string, error) { return c.named("type", "Line") }

// events are those of the inspector's stream.
func (c *code) events() ([]string, error) { return c.named("event", "Event") }

// objectOf is the beginning of the comment of a constant that names an object.
var objectOf = regexp.MustCompile(`^([A-Z]\w*): `)

// named lists constants of internal/api that name what an object is sent as. Their comments begin with the object's type.
func (c *code) named(what, prefix string) ([]string, error) {
	list, err := c.constants("internal/api", prefix)
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for _, n := range list {
		object := objectOf.FindStringSubmatch(n.comment)
		if object == nil {
			return nil, fmt.Errorf("the comment of %s does not begin with the type of its object: %q", n.name, n.comment)
		}
		fields, err := c.fields(object[1])
		if err != nil {
			return nil, err
		}
		names := make([]string, 0, len(fields))
		for _, f := range fields {
			names = append(names, "`"+f.name+"`")
		}
		rows = append(rows, []string{"`" + n.value + "`", strings.TrimPrefix(n.comment, object[0]), strings.Join(names, ", ")})
	}
	return table([]string{what, "when", "fields"}, rows), nil
}

// route is a place where a router is told what answers a path, and the comment at its end.
func (c *code) routes(dir string) ([]string, error) {
	var rows [][]string
	var problem error
	for _, file := range c.files[dir] {
		comments := map[int]string{} // by the line that they end
		for _, g := range file.Comments {
			comments[c.fset.Position(g.Pos()).Line] = comment(g)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			statement, ok := n.(*ast.ExprStmt)
			if !ok {
				return true
			}
			path, methods := c.routed(dir, statement)
			if path == "" {
				return true
			}
			said := comments[c.fset.Position(statement.End()).Line]
			if said == "" {
				problem = errors.Join(problem, fmt.Errorf("%s: %s has no comment", c.fset.Position(statement.Pos()), path))
			}
			for _, method := range methods {
				rows = append(rows, []string{linked(method + " " + path), said})
			}
			return true
		})
	}
	if rows == nil {
		return nil, fmt.Errorf("%s tells no router of a path", dir)
	}
	return table([]string{"request", "answer"}, rows), problem
}

// linked returns a request, as a link to its section in the page if it is one of the API.
func linked(request string) string {
	method, path, _ := strings.Cut(request, " ")
	if !strings.HasPrefix(path, "/api/") {
		return "`" + request + "`"
	}
	return fmt.Sprintf("[`%s`](#%s-%s)", request, strings.ToLower(method), strings.ToLower(strings.ReplaceAll(path, "/", "")))
}

// variablePart is a part of a path that is not fixed.
var variablePart = regexp.MustCompile(`\{(\w+)[^}]*\}`)

// routed returns the path and the methods that a statement gives to a router, "" if it is another statement. HEAD goes without saying.
func (c *code) routed(dir string, statement *ast.ExprStmt) (path string, methods []string) {
	ast.Inspect(statement, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			called, ok := n.Fun.(*ast.SelectorExpr)
			if !ok || called.Sel.Name != "Handle" && called.Sel.Name != "Path" {
				return true
			}
			if on, ok := called.X.(*ast.Ident); !ok || on.Name != "router" {
				return true
			}
			path = variablePart.ReplaceAllStringFunc(c.text(dir, n.Args[0]), func(part string) string {
				return strings.ToUpper(variablePart.FindStringSubmatch(part)[1])
			})
		case *ast.SelectorExpr:
			if method, ok := strings.CutPrefix(n.Sel.Name, "Method"); ok && method != "Head" {
				methods = append(methods, strings.ToUpper(method))
			}
		}
		return true
	})
	return path, methods
}

// field is one of an object, as JSON has it.
type field struct{ name, kind, comment string }

// object lists the fields of a struct, but for those of another one that is embedded in it.
func (c *code) object(name, without string) ([]string, error) {
	fields, err := c.fields(name)
	if err != nil {
		return nil, err
	}
	var known []field
	if without != "" {
		if known, err = c.fields(without); err != nil {
			return nil, err
		}
	}
	var rows [][]string
	for _, f := range fields {
		if slices.Contains(known, f) {
			continue
		}
		if f.comment == "" {
			return nil, fmt.Errorf("the field %s of %s has no comment", f.name, name)
		}
		rows = append(rows, []string{"`" + f.name + "`", f.kind, f.comment})
	}
	return table([]string{"field", "type", ""}, rows), nil
}

// fields returns the fields of a struct of internal/api, those of embedded structs included.
func (c *code) fields(name string) ([]field, error) {
	var found *ast.StructType
	for _, file := range c.files["internal/api"] {
		for _, decl := range file.Decls {
			if group, ok := decl.(*ast.GenDecl); ok && group.Tok == token.TYPE {
				for _, spec := range group.Specs {
					if t := spec.(*ast.TypeSpec); t.Name.Name == name {
						found, _ = t.Type.(*ast.StructType)
					}
				}
			}
		}
	}
	if found == nil {
		return nil, fmt.Errorf("internal/api has no struct %s", name)
	}
	var list []field
	for _, f := range found.Fields.List {
		if f.Tag == nil {
			embedded, ok := f.Type.(*ast.Ident)
			if !ok {
				return nil, fmt.Errorf("%s has a field that JSON does not have", name)
			}
			inner, err := c.fields(embedded.Name)
			if err != nil {
				return nil, err
			}
			list = append(list, inner...)
			continue
		}
		tag, err := strconv.Unquote(f.Tag.Value)
		if err != nil {
			return nil, err
		}
		named, options, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		if named == "-" {
			continue
		}
		said := sentence(comment(f.Doc, f.Comment))
		if options := strings.Split(options, ","); said != "" && (slices.Contains(options, "omitempty") || slices.Contains(options, "omitzero")) {
			said += "; may be missing"
		}
		list = append(list, field{named, kind(f.Type), said})
	}
	return list, nil
}

// sentence returns a text as a table has it: without the full stop of a sentence, and not with a capital for its beginning alone.
func sentence(text string) string {
	if !strings.HasSuffix(text, "...") {
		text = strings.TrimSuffix(text, ".")
	}
	if len(text) > 1 && strings.ToUpper(text[1:2]) != text[1:2] { // not "ID" or "IDs"
		text = strings.ToLower(text[:1]) + text[1:]
	}
	return text
}

// kind tells what JSON has for a Go type.
func kind(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return kind(t.X) + " or null"
	case *ast.ArrayType:
		return "list"
	case *ast.MapType:
		return "object"
	case *ast.SelectorExpr: // json.RawMessage, http.Header
		if t.Sel.Name == "RawMessage" {
			return "any"
		}
		return "object"
	case *ast.Ident:
		switch t.Name {
		case "string", "Source", "Result":
			return "text"
		case "Time":
			return "time"
		case "bool":
			return "true or false"
		case "int", "int64", "uint64", "float64":
			return "number"
		}
	}
	return "object"
}
