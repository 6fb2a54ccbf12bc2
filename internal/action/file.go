package action

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// FileName is what a configuration file is called in the working directory.
const FileName = "hubhook.yaml"

// maxFile is the most bytes that a configuration file may have.
const maxFile = 1 << 20

// Options are what a configuration file is read with.
type Options struct {
	// Settings are the flags of serve, which are keys of the file too.
	Settings []Setting
	// Commands runs the commands of endpoints, and has the secret of both commands and forwarding; nil for new ones without a secret.
	Commands *Commands
}

// Setting is a flag of serve.
type Setting struct {
	Name  string                      // without dashes before it; in a file _ may stand for -
	Many  bool                        // it may be repeated, so a list may stand in the file
	Check func(values []string) error // says what is wrong with which setting, nil for nothing; the error may have a hint
}

// File is a configuration file in which everything is checked. Close it at the end.
type File struct {
	Path      string
	Endpoints []*Endpoint        // in the file's order
	Values    map[string]Value   // of settings, by their names
	Triggers  map[string]Trigger // by name

	content content
}

// Value is that of a setting.
type Value struct {
	Texts []string // as a flag would have them
	Place string   // where it stands, hubhook.yaml:12
}

// Trigger is a sample event with a name.
type Trigger struct {
	Scope  string
	Action string         // "" for the scope's usual one
	Set    map[string]any // fields of the payload, by path, as payload.Sample takes them; nil for none
}

// FileError is something wrong in a configuration file.
type FileError struct {
	Path         string
	Line, Column int // from 1, 0 where they are unknown
	Text         string
	Advice       string // how to fix it; may be empty
}

// Error implements error.
func (e *FileError) Error() string { return e.place() + ": " + e.Text }

// Hint returns how to fix it, or "".
func (e *FileError) Hint() string { return e.Advice }

func (e *FileError) place() string {
	switch {
	case e.Line == 0:
		return e.Path
	case e.Column == 0:
		return fmt.Sprintf("%s:%d", e.Path, e.Line)
	}
	return fmt.Sprintf("%s:%d:%d", e.Path, e.Line, e.Column)
}

// Load reads and checks a configuration file. Commands of it run in its directory. What is wrong in it is a *FileError; a file that is
// missing is fs.ErrNotExist.
func Load(path string, options Options) (*File, error) {
	text, err := readConfiguration(path)
	if err != nil {
		return nil, err
	}
	return parseFile(path, text, options)
}

// NoFile stands for a configuration file that could not be read when hubhook started. err is the error of Load. Once the file can be read,
// it is taken up as an edit is.
func NoFile(path string, err error) *File {
	return &File{Path: path, content: content{problem: err.Error()}}
}

// Missing reports whether f was made by NoFile.
func (f *File) Missing() bool { return f.content.problem != "" }

func readConfiguration(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = &FileError{Path: path, Text: fmt.Sprintf("the file has more than %d bytes", maxFile)}
	}
	return text, err
}

// Setting returns the values of a setting and where they stand, none where the file does not set it. It is for server.Config.
func (f *File) Setting(name string) (values []string, place string) {
	v := f.Values[name]
	return v.Texts, v.Place
}

// Close lets go of what the endpoints hold.
func (f *File) Close() {
	for _, e := range f.Endpoints {
		e.Close()
	}
}

// parseFile checks a file's text.
func parseFile(path string, text []byte, options Options) (*File, error) {
	if options.Commands == nil {
		options.Commands = new(Commands)
	}
	r := &reader{path: path, dir: filepath.Dir(path), options: options}
	f := &File{Path: path, Values: map[string]Value{}, Triggers: map[string]Trigger{}, content: content{text: text}}
	root, err := r.parse(text)
	if err == nil && root != nil {
		err = r.file(root, f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// reader reads one file.
type reader struct {
	path    string
	dir     string
	options Options
}

// parse returns the top of the file, nil where there is nothing in it.
func (r *reader) parse(text []byte) (*yaml.Node, error) {
	if !utf8.Valid(text) {
		before := text
		for i := 0; i < len(text); {
			c, size := utf8.DecodeRune(text[i:])
			if c == utf8.RuneError && size == 1 {
				before = text[:i]
				break
			}
			i += size
		}
		start := bytes.LastIndexByte(before, '\n') + 1
		return nil, &FileError{Path: r.path, Line: bytes.Count(before, []byte("\n")) + 1, Column: utf8.RuneCount(before[start:]) + 1, Text: "a byte that is not UTF-8"}
	}
	var documents []*yaml.Node
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	for err == nil {
		document := new(yaml.Node)
		if err = loader.Load(document); err == nil {
			documents = append(documents, document)
		}
	}
	if !errors.Is(err, io.EOF) {
		broken := &FileError{Path: r.path, Text: err.Error()}
		if at, ok := errors.AsType[*yaml.LoadError](err); ok {
			broken.Line, broken.Column, broken.Text = at.Mark.Line, at.Mark.Column, at.Message
			if at.ContextMsg != "" {
				broken.Text += fmt.Sprintf(" %s that begins on line %d", at.ContextMsg, at.ContextMark.Line)
			}
		}
		return nil, broken
	}
	switch {
	case len(documents) == 0 || len(documents[0].Content) == 0:
		return nil, nil
	case len(documents) > 1:
		return nil, r.fail(documents[1], "", "a second document begins here; the file is one")
	}
	if root := documents[0].Content[0]; !isNull(root) {
		return root, nil
	}
	return nil, nil
}

// The keys of a file, beside settings, and of its parts.
var (
	fileKeys     = []string{"endpoints", "tunnel", "triggers"}
	endpointKeys = []string{"if", "run", "forward", "timeout", "attempts", "serial_by", "debounce", "concurrency"}
	tunnelKeys   = []string{"provider", "url"}
	triggerKeys  = []string{"scope", "action", "set"}
)

func (r *reader) file(root *yaml.Node, f *File) error {
	known := slices.Clone(fileKeys)
	for _, s := range r.options.Settings {
		if !slices.Contains(known, s.Name) {
			known = append(known, s.Name)
		}
	}
	fields, err := r.fields(root, "the file", known)
	if err != nil {
		return err
	}
	for _, key := range fields {
		switch key.name {
		case "endpoints":
			err = r.endpoints(key, f)
		case "watch", "follow":
			if _, err = r.items(key); err == nil {
				err = r.setting(key.name, key, f)
			}
		case "triggers":
			err = r.triggers(key, f)
		case "tunnel":
			err = r.tunnel(key, f)
		default:
			err = r.setting(key.name, key, f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) endpoints(key field, f *File) error {
	fields, err := r.fields(key.value, "endpoints", nil)
	if err != nil {
		return err
	}
	for _, one := range fields {
		name, err := server.EndpointName(one.name)
		if err != nil {
			return r.fail(one.key, "an endpoint's name has letters, digits, _, - and ., in segments joined by /", "%v", err)
		}
		if slices.ContainsFunc(f.Endpoints, func(e *Endpoint) bool { return e.Name == name }) {
			return r.fail(one.key, "", "endpoint %s is there already", name)
		}
		e := &Endpoint{Name: name}
		f.Endpoints = append(f.Endpoints, e)
		if isNull(one.value) {
			continue // it has no handler
		}
		if err := r.endpoint(one, e); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) endpoint(of field, e *Endpoint) error {
	fields, err := r.fields(of.value, "endpoint "+e.Name, endpointKeys)
	if err != nil {
		return err
	}
	var action *field
	for _, key := range fields {
		what := e.Name + ": " + key.name
		switch key.name {
		case "if":
			e.If, e.filter, err = r.filter(key, what)
			e.hub = r.options.Commands.Hub
		case "run", "forward":
			if action != nil {
				return r.fail(key.key, "give each of them an endpoint of its own", "%s has %s already; an endpoint does one of both", e.Name, action.name)
			}
			action = &key
			err = r.action(key, what, e)
		case "timeout":
			e.Timeout, err = r.duration(key, what)
		case "debounce":
			e.Debounce, err = r.duration(key, what)
		case "attempts":
			e.Attempts, err = r.count(key, what)
		case "concurrency":
			e.Concurrency, err = r.count(key, what)
		case "serial_by":
			e.SerialBy, err = r.words(key, what)
			if err == nil {
				if e.serial, err = newKey(e.SerialBy); err != nil {
					err = r.inExpression(key.value, what, err)
				}
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// action reads run or forward.
func (r *reader) action(key field, what string, e *Endpoint) error {
	text, err := r.words(key, what)
	if err != nil {
		return err
	}
	if key.name == "run" {
		err = e.run(text, r.dir, r.options.Commands)
	} else {
		err = e.forward(text, r.options.Commands)
	}
	if err != nil {
		return r.fail(key.value, "", "%s: %v", what, err)
	}
	return nil
}

func (r *reader) filter(key field, what string) (string, *Filter, error) {
	if key.value.Kind != yaml.ScalarNode || isNull(key.value) {
		return "", nil, r.fail(key.value, "", "%s: want an expression, have %s", what, kindOf(key.value))
	}
	filter, err := ParseFilter(key.value.Value)
	if err != nil {
		return "", nil, r.inExpression(key.value, what, err)
	}
	return key.value.Value, filter, nil
}

// inExpression returns an error with its place in the file. The place is exact only in plain text on one line, because there each character
// of the expression is one of the file. In a block only the lines are those of the file.
func (r *reader) inExpression(n *yaml.Node, what string, err error) error {
	wrong, ok := errors.AsType[*FilterError](err)
	if !ok {
		return r.fail(n, "", "%s: %v", what, err)
	}
	at := &FileError{Path: r.path, Line: n.Line, Column: n.Column, Text: fmt.Sprintf("%s: %s", what, wrong.Text)}
	switch plain := n.Style&(yaml.LiteralStyle|yaml.FoldedStyle|yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) == 0; {
	case n.Style&yaml.LiteralStyle != 0:
		at.Line, at.Column = n.Line+wrong.Line, 0
	case plain && wrong.Line == 1:
		at.Column += wrong.Column - 1
	default:
		at.Text += fmt.Sprintf(" (at character %d of the expression)", wrong.Column)
	}
	return at
}

// items reads a list of [ENDPOINT=]TYPE:NAME, or a single one.
func (r *reader) items(key field) ([]string, error) {
	nodes := []*yaml.Node{key.value}
	if key.value.Kind == yaml.SequenceNode {
		nodes = key.value.Content
	}
	var items []string
	for _, n := range nodes {
		n = resolve(n)
		text, err := r.words(field{value: n}, key.name)
		if err != nil {
			return nil, err
		}
		item := text
		if at := strings.IndexByte(text, '='); at >= 0 {
			if _, err := server.EndpointName(text[:at]); err != nil {
				return nil, r.fail(n, "", "%s: %v", key.name, err)
			}
			item = text[at+1:]
		}
		if kind, name, ok := strings.Cut(item, ":"); !ok || kind == "" || name == "" {
			return nil, r.fail(n, "write it as dataset:me/data, or as train=dataset:me/data for the endpoint train", "%s: want TYPE:NAME, have %q", key.name, oneLine(text, maxShown))
		}
		items = append(items, text)
	}
	return items, nil
}

// tunnel reads the name of a provider, or a mapping with what else belongs to it.
func (r *reader) tunnel(key field, f *File) error {
	if key.value.Kind != yaml.MappingNode {
		return r.setting("tunnel", key, f)
	}
	fields, err := r.fields(key.value, "tunnel", tunnelKeys)
	if err != nil {
		return err
	}
	for _, one := range fields {
		name := map[string]string{"provider": "tunnel", "url": "url"}[one.name]
		if earlier, ok := f.Values[name]; ok {
			return r.fail(one.key, "", "tunnel: %s is set at %s already", name, earlier.Place)
		}
		if err := r.setting(name, one, f); err != nil {
			return err
		}
	}
	return nil
}

// setting reads the value of one as a flag would have it.
func (r *reader) setting(name string, key field, f *File) error {
	i := slices.IndexFunc(r.options.Settings, func(s Setting) bool { return s.Name == name })
	if i < 0 {
		return r.fail(key.key, "", "%s can't be set in a file", name)
	}
	s := r.options.Settings[i]
	if earlier, ok := f.Values[name]; ok {
		return r.fail(key.key, "", "%s is set at %s already", name, earlier.Place)
	}
	nodes := []*yaml.Node{key.value}
	if s.Many && key.value.Kind == yaml.SequenceNode {
		nodes = key.value.Content
	}
	v := Value{Place: fmt.Sprintf("%s:%d", r.path, key.key.Line)}
	for _, n := range nodes {
		n = resolve(n)
		if n.Kind != yaml.ScalarNode || isNull(n) {
			return r.fail(n, "", "%s: want one value, have %s", name, kindOf(n))
		}
		v.Texts = append(v.Texts, n.Value)
	}
	if s.Check != nil {
		if err := s.Check(v.Texts); err != nil {
			return r.fail(key.value, text.Hint(err), "%v", err)
		}
	}
	f.Values[name] = v
	return nil
}

func (r *reader) triggers(key field, f *File) error {
	fields, err := r.fields(key.value, "triggers", nil)
	if err != nil {
		return err
	}
	for _, one := range fields {
		what := "trigger " + oneLine(one.name, maxShown)
		if slices.ContainsFunc(payload.Samples(), func(e payload.Event) bool { return string(e.Scope) == one.name }) {
			return r.fail(one.key, "give the trigger another name", "%s is named like a scope", what)
		}
		parts, err := r.fields(one.value, what, triggerKeys)
		if err != nil {
			return err
		}
		var t Trigger
		for _, part := range parts {
			switch part.name {
			case "scope":
				t.Scope, err = r.words(part, what+": scope")
			case "action":
				t.Action, err = r.words(part, what+": action")
			case "set":
				t.Set, err = r.set(part, what)
			}
			if err != nil {
				return err
			}
		}
		if t.Scope == "" {
			return r.fail(one.key, "repo.content is a push", "%s names no scope", what)
		}
		if _, err := payload.Sample(payload.Scope(t.Scope), payload.Action(t.Action), t.Set); err != nil {
			return r.fail(one.key, "", "%s: %v", what, err)
		}
		f.Triggers[one.name] = t
	}
	return nil
}

// set reads values by paths of a payload.
func (r *reader) set(part field, what string) (map[string]any, error) {
	fields, err := r.fields(part.value, what+": set", nil)
	if err != nil {
		return nil, err
	}
	values := make(map[string]any, len(fields))
	for _, f := range fields {
		var value any
		if err := f.value.Load(&value); err != nil {
			return nil, r.fail(f.value, "", "%s: set %s: %v", what, oneLine(f.name, maxShown), err)
		}
		values[f.name] = value
	}
	return values, nil
}
