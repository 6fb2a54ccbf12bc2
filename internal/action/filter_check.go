package action

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"
)

// payloadFields are the fields of a payload that are known today. An expression may name others: the Hub adds some without notice.
var payloadFields = []string{"event", "repo", "updatedRefs", "updatedFiles", "updatedFilesTruncated", "updatedConfig", "movedTo", "discussion", "comment", "webhook"}

// checkFilter parses source and finds all that is wrong with it before there is a payload. It returns the fields that source names.
func checkFilter(source string) (ast.Node, []string, error) {
	return check(source, expr.AsBool(), wordNames)
}

// checkKey is checkFilter for a serial key, which may have any value. It is made before the delivery is stored, so it can't wait for the Hub.
func checkKey(source string) (ast.Node, []string, error) {
	quick := maps.Clone(wordNames)
	maps.DeleteFunc(quick, func(name string, _ bool) bool { return askingWords[name] })
	return check(source, expr.AsAny(), quick)
}

func check(source string, value expr.Option, functions map[string]bool) (ast.Node, []string, error) {
	if strings.TrimSpace(source) == "" {
		return nil, nil, &FilterError{"the expression is empty", 1, 1}
	}
	tree, err := parser.Parse(source)
	if err != nil {
		return nil, nil, filterError(err)
	}
	c := &checkVisitor{functions: functions, variables: map[string]bool{}}
	ast.Walk(&tree.Node, c) // variables and called functions first
	c.second = true
	ast.Walk(&tree.Node, c)
	if c.err != nil {
		return nil, nil, filterError(c.err.Bind(tree.Source))
	}
	// Without the patches of compile, which would hide that the types of two values never fit.
	if _, err := expr.Compile(source, append(environmentOptions(), value)...); err != nil {
		return nil, nil, filterError(err)
	}
	if _, err := compile(source); err != nil {
		return nil, nil, filterError(err)
	}
	return tree.Node, c.fields, nil
}

// filterError makes a FilterError of an error of the expression language.
func filterError(err error) *FilterError {
	var at *file.Error
	if !errors.As(err, &at) {
		return &FilterError{Text: err.Error(), Line: 1, Column: 1}
	}
	return &FilterError{Text: strings.TrimSpace(at.Message), Line: max(at.Line, 1), Column: at.Column + 1}
}

// checkVisitor checks the names of an expression, and its patterns.
type checkVisitor struct {
	second    bool            // the first walk only gathers
	functions map[string]bool // of ours, that it may call
	variables map[string]bool // of let
	callees   []ast.Node
	fields    []string
	err       *file.Error // the first one
}

// Visit implements ast.Visitor.
func (c *checkVisitor) Visit(node *ast.Node) {
	if !c.second {
		switch n := (*node).(type) {
		case *ast.VariableDeclaratorNode:
			c.variables[n.Name] = true
		case *ast.CallNode:
			c.callees = append(c.callees, n.Callee)
		}
		return
	}
	switch n := (*node).(type) {
	case *ast.CallNode:
		c.call(n)
	case *ast.IdentifierNode:
		c.name(n)
	}
}

func (c *checkVisitor) call(n *ast.CallNode) {
	name, ok := n.Callee.(*ast.IdentifierNode)
	switch {
	case !ok:
		c.fail(n, "values of a payload can't be called")
	case askingWords[name.Value] && !c.functions[name.Value]:
		c.fail(n, name.Value+"(...) may have to ask the Hub, and a serial key is needed before the delivery is stored: use it in if")
	case !c.functions[name.Value]:
		c.fail(n, "there is no function "+name.Value+suggest(name.Value, append(sorted(c.functions), builtins()...)))
	case globWords[name.Value]:
		for _, argument := range n.Arguments {
			if glob, ok := argument.(*ast.StringNode); ok && !doublestar.ValidatePattern(glob.Value) {
				c.fail(argument, fmt.Sprintf("the pattern %q is broken", glob.Value))
			}
		}
	}
}

func (c *checkVisitor) name(n *ast.IdentifierNode) {
	switch {
	case slices.Contains(c.callees, ast.Node(n)) || c.variables[n.Value]:
	case wordNames[n.Value]:
		c.fail(n, fmt.Sprintf("%s is a function: write %[1]s(...)", n.Value))
	case slices.Contains(c.fields, n.Value):
	default:
		if !slices.Contains(payloadFields, n.Value) && suggest(n.Value, payloadFields) != "" {
			c.fail(n, "payloads have no "+n.Value+suggest(n.Value, payloadFields))
		}
		c.fields = append(c.fields, n.Value)
	}
}

func (c *checkVisitor) fail(at ast.Node, text string) {
	if c.err == nil {
		c.err = &file.Error{Location: at.Location(), Message: text}
	}
}

// environmentOptions declare what expressions can name.
func environmentOptions() []expr.Option {
	return []expr.Option{expr.Env(new(words).all()), expr.AllowUndefinedVariables()}
}

// truthName is the function behind every truth of an expression. No expression can name it.
const truthName = " truth"

// compile makes a program of an expression, or of a part of one.
func compile(source string) (*vm.Program, error) {
	options := append(environmentOptions(),
		expr.Function(truthName, func(values ...any) (any, error) { return truth(values[0]) }, new(func(any) bool)),
		expr.Patch(&lenient{}))
	return expr.Compile(source, options...)
}

// truth returns a bool, and false for nil.
func truth(value any) (any, error) {
	switch v := value.(type) {
	case bool:
		return v, nil
	case nil:
		return false, nil
	}
	return nil, fmt.Errorf("want true or false, have %s", shown(value))
}

// lenient makes an expression take missing fields as a Filter promises.
type lenient struct{ variables int }

// comparing are the operators that fail with nil in the language itself.
var comparing = []string{"<", ">", "<=", ">=", "contains", "startsWith", "endsWith", "matches"}

// searching are functions whose predicate is a truth.
var searching = []string{"all", "any", "none", "one", "filter", "count", "find", "findIndex", "findLast", "findLastIndex"}

// listing are further functions whose first argument is a list.
var listing = []string{"map", "len", "first", "last", "sum", "groupBy", "sortBy", "reduce"}

// Visit implements ast.Visitor.
func (l *lenient) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.MemberNode:
		if !n.Method {
			n.Optional = true
			ast.Patch(node, &ast.ChainNode{Node: n})
		}
	case *ast.UnaryNode:
		if n.Operator == "!" || n.Operator == "not" {
			n.Node = asTruth(n.Node)
		}
	case *ast.ConditionalNode:
		n.Cond = asTruth(n.Cond)
	case *ast.BuiltinNode:
		l.builtin(n)
	case *ast.BinaryNode:
		switch {
		case slices.Contains([]string{"&&", "and", "||", "or"}, n.Operator):
			n.Left, n.Right = asTruth(n.Left), asTruth(n.Right)
		case slices.Contains(comparing, n.Operator):
			l.comparison(node, n)
		}
	}
}

func (l *lenient) builtin(n *ast.BuiltinNode) {
	search := slices.Contains(searching, n.Name)
	if len(n.Arguments) == 0 || !search && !slices.Contains(listing, n.Name) {
		return
	}
	if !isConstant(n.Arguments[0]) {
		n.Arguments[0] = &ast.BinaryNode{Operator: "??", Left: n.Arguments[0], Right: &ast.ArrayNode{}}
	}
	if search && len(n.Arguments) > 1 {
		if predicate, ok := n.Arguments[1].(*ast.PredicateNode); ok {
			predicate.Node = asTruth(predicate.Node)
		}
	}
}

// comparison makes a < b of nil and anything false: let x = a; let y = b; x != nil && y != nil && x < y.
func (l *lenient) comparison(node *ast.Node, n *ast.BinaryNode) {
	inner := &ast.BinaryNode{Operator: n.Operator, Left: n.Left, Right: n.Right}
	inner.SetLocation(n.Location())
	var whole ast.Node = inner
	type variable struct {
		name  string
		value ast.Node
	}
	var variables []variable
	for _, side := range []*ast.Node{&inner.Left, &inner.Right} {
		if isConstant(*side) {
			continue
		}
		l.variables++
		v := variable{fmt.Sprintf(" %d", l.variables), *side}
		*side = &ast.IdentifierNode{Value: v.name}
		variables = append(variables, v)
		whole = &ast.BinaryNode{Operator: "&&", Left: &ast.BinaryNode{Operator: "!=", Left: &ast.IdentifierNode{Value: v.name}, Right: &ast.NilNode{}}, Right: whole}
	}
	for _, v := range slices.Backward(variables) {
		whole = &ast.VariableDeclaratorNode{Name: v.name, Value: v.value, Expr: whole}
	}
	ast.Patch(node, whole)
}

func asTruth(n ast.Node) ast.Node {
	if _, ok := n.(*ast.BoolNode); ok {
		return n
	}
	call := &ast.CallNode{Callee: &ast.IdentifierNode{Value: truthName}, Arguments: []ast.Node{n}}
	call.SetLocation(n.Location())
	return call
}

func isConstant(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.NilNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.StringNode, *ast.BytesNode:
		return true
	case *ast.UnaryNode:
		return isConstant(n.Node)
	case *ast.ArrayNode:
		return !slices.ContainsFunc(n.Nodes, func(n ast.Node) bool { return !isConstant(n) })
	case *ast.BinaryNode:
		return n.Operator == ".." && isConstant(n.Left) && isConstant(n.Right)
	}
	return false
}
