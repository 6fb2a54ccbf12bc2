package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"github.com/hubhook/hubhook/payload"
)

// Filter is an `if` of hubhook.yaml: an expression over the payload as the Hub sends it, in the language of expr-lang/expr. A field that
// is missing is nil. Where nil stands for a truth it counts as false, a comparison by size, of text or of contents with nil is false, and
// the list nil is empty. Beside the language's own functions there are scope, action, branch, tag, pr, convert, files and by.
//
// A Filter may be used by several goroutines at a time.
type Filter struct {
	root   condition
	fields []string // top-level fields of the payload that the expression names; $env for all
}

// FilterError says where an expression is wrong.
type FilterError struct {
	Text         string
	Line, Column int // in the expression, from 1
}

// Error implements error.
func (e *FilterError) Error() string { return fmt.Sprintf("%s (%d:%d)", e.Text, e.Line, e.Column) }

// ParseFilter reads an expression. The error is a *FilterError.
func ParseFilter(source string) (*Filter, error) {
	tree, fields, err := checkFilter(source)
	if err != nil {
		return nil, err
	}
	root, err := newCondition(tree)
	if err != nil {
		return nil, filterError(err)
	}
	return &Filter{root: root, fields: fields}, nil
}

// Keep reports whether the expression is true of p, and if not, which part of it was false and what it saw:
//
//	branch("main") was false: refs/pr/5
//
// connect returns the Hub that files and by ask. It is called only where they need it. nil means that nobody can be asked, and both fail.
//
// An error does not say that p is unwanted: the Hub did not answer, ctx ended, or a value has a type that does not fit. The attempt has failed.
func (f *Filter) Keep(ctx context.Context, p *payload.Payload, connect func() (Hub, error)) (keep bool, why string, err error) {
	env, err := environment(&words{p: p, ctx: ctx, hub: connect}, f.fields)
	if err != nil {
		return false, "", err
	}
	keep, err = f.root.holds(env)
	if err != nil || keep {
		return keep, "", err
	}
	return false, oneLine(f.root.explain(env, false), maxReason), nil
}

// Bounds of reasons, in bytes.
const (
	maxReason = 500
	maxPart   = 200 // of one part of the expression
	maxSeen   = 100 // of one value
)

// condition is a part of an expression that is true or false.
type condition interface {
	holds(env map[string]any) (bool, error)
	// explain says why holds returned so.
	explain(env map[string]any, so bool) string
}

// newCondition takes an expression apart at !, && and ||.
func newCondition(n ast.Node) (condition, error) {
	switch n := n.(type) {
	case *ast.UnaryNode:
		if n.Operator == "!" || n.Operator == "not" {
			of, err := newCondition(n.Node)
			return not{of}, err
		}
	case *ast.BinaryNode:
		and := n.Operator == "&&" || n.Operator == "and"
		if !and && n.Operator != "||" && n.Operator != "or" {
			break
		}
		left, err := newCondition(n.Left)
		if err != nil {
			return nil, err
		}
		right, err := newCondition(n.Right)
		return both{left, right, and}, err
	}
	return newPart(n)
}

// not is !.
type not struct{ of condition }

func (c not) holds(env map[string]any) (bool, error) {
	yes, err := c.of.holds(env)
	return !yes && err == nil, err
}

func (c not) explain(env map[string]any, so bool) string { return c.of.explain(env, !so) }

// both is &&, or ||.
type both struct {
	left, right condition
	and         bool
}

func (c both) holds(env map[string]any) (bool, error) {
	yes, err := c.left.holds(env)
	if err != nil || yes != c.and {
		return yes, err
	}
	return c.right.holds(env)
}

func (c both) explain(env map[string]any, so bool) string {
	if so == c.and { // both of them are why
		return c.left.explain(env, so) + "; " + c.right.explain(env, so)
	}
	if yes, err := c.left.holds(env); err == nil && yes == so {
		return c.left.explain(env, so)
	}
	return c.right.explain(env, so)
}

// part is a condition that is not taken apart.
type part struct {
	text    string
	program *vm.Program
	word    string        // the function of ours that it calls, or ""
	seen    []*vm.Program // what it looked at, otherwise
}

func newPart(n ast.Node) (*part, error) {
	p := &part{text: n.String()}
	var err error
	if p.program, err = compile(p.text); err != nil {
		return nil, err
	}
	var operands []ast.Node
	switch n := n.(type) {
	case *ast.CallNode:
		if name, ok := n.Callee.(*ast.IdentifierNode); ok && wordNames[name.Value] {
			p.word = name.Value
		}
	case *ast.BinaryNode:
		operands = []ast.Node{n.Left, n.Right}
	case *ast.BuiltinNode:
		operands = n.Arguments[:min(1, len(n.Arguments))] // what it searches
	case *ast.MemberNode, *ast.IdentifierNode, *ast.ChainNode:
		operands = []ast.Node{n}
	}
	for _, operand := range operands {
		if isConstant(operand) {
			continue
		}
		seen, err := compile(operand.String())
		if err != nil {
			return nil, err
		}
		p.seen = append(p.seen, seen)
	}
	return p, nil
}

func (p *part) holds(env map[string]any) (bool, error) {
	value, err := expr.Run(p.program, env)
	if err == nil {
		value, err = truth(value)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %s", oneLine(p.text, maxPart), messageOf(err))
	}
	return value.(bool), nil
}

func (p *part) explain(env map[string]any, so bool) string {
	said := fmt.Sprintf("%s was %t", oneLine(p.text, maxPart), so)
	if p.word != "" {
		return said + ": " + oneLine(env[wordsName].(*words).saw(p.word), maxSeen)
	}
	var seen []string
	for _, program := range p.seen {
		value, err := expr.Run(program, env)
		if text := shown(value); err == nil && text != fmt.Sprint(so) {
			seen = append(seen, text)
		}
	}
	if len(seen) > 0 {
		said += ": " + strings.Join(seen, ", ")
	}
	return said
}

// shown returns a value as people write it.
func shown(value any) string {
	if value == nil {
		return "nil"
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprintf("a %T", value)
	}
	return oneLine(string(text), maxSeen)
}

// messageOf returns what the expression language says of an error, without the piece of source that it draws below it.
func messageOf(err error) string {
	if at, ok := errors.AsType[*file.Error](err); ok {
		return at.Message
	}
	return err.Error()
}

// maxFiltered is how many bytes of a payload an expression can look at: decoded, they take up to forty times as much memory. The longest list
// of the Hub, 10,000 files of a bucket, has 1.5 MB.
const maxFiltered = 4 << 20

// environment returns what an expression can name: fields of the payload, and words over it.
func environment(w *words, fields []string) (map[string]any, error) {
	p := w.p
	env := make(map[string]any)
	left := maxFiltered
	take := func(what string, raw []byte) error {
		if left -= len(raw); left < 0 {
			return fmt.Errorf("%s of the payload has %d bytes: a filter looks at %d in all; let the handler look at it", what, len(raw), maxFiltered)
		}
		return nil
	}
	if slices.Contains(fields, "$env") {
		if err := take("all", p.Raw()); err != nil {
			return nil, err
		}
		if err := decode(p.Raw(), &env); err != nil {
			return nil, err
		}
	} else {
		for _, name := range fields {
			raw, ok := p.Lookup(name)
			if !ok {
				continue
			}
			if err := take(name, raw); err != nil {
				return nil, err
			}
			var value any
			if err := decode(raw, &value); err != nil {
				return nil, fmt.Errorf("read %s of the payload: %w", name, err)
			}
			env[name] = value
		}
	}
	env[wordsName] = w
	for name, word := range w.all() {
		env[name] = word
	}
	return env, nil
}

// decode reads JSON with whole numbers as int, which the expression language takes for indexes, too.
func decode[T any](raw []byte, to *T) error {
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.UseNumber()
	if err := decoder.Decode(to); err != nil {
		return err
	}
	whole, _ := numbers(*to).(T)
	*to = whole
	return nil
}

func numbers(value any) any {
	switch v := value.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil && i >= math.MinInt && i <= math.MaxInt {
			return int(i)
		}
		f, err := v.Float64()
		if err != nil {
			return string(v) // too large for either
		}
		return f
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = numbers(v[name])
		}
	}
	return value
}
