package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"

	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// Endpoint is an endpoint whose handler is not a Go function: one of hubhook.yaml, --run or --forward.
type Endpoint struct {
	Name        string
	If          string // the filter's expression, "" for none
	Run         string // the command, "" for none
	Forward     string // the URL as it may be shown, "" for none
	Timeout     time.Duration
	Attempts    int
	SerialBy    string // an expression, "" for none
	Debounce    time.Duration
	Concurrency int // of all these 0 for the server's default

	filter   *Filter
	hub      func() (Hub, error) // what the filter asks
	serial   *key
	handler  server.Handler // nil stores and shows alone
	upstream *Forward       // nil for one that does not forward
}

// attemptTime is how long an attempt may take if nothing else is set: as long as the server's default.
const attemptTime = time.Hour

// FromFlags returns the endpoints of `--run NAME=COMMAND` and `--forward NAME=URL`. Commands run in the working directory.
func FromFlags(run, forward []string, commands *Commands) ([]*Endpoint, error) {
	var all []*Endpoint
	add := func(flag, text, want string, action func(*Endpoint, string) error) error {
		name, value, ok := strings.Cut(text, "=")
		if !ok || strings.TrimSpace(value) == "" {
			return fmt.Errorf("--%s: want %s, have %q", flag, want, oneLine(text, maxShown))
		}
		name, err := server.EndpointName(name)
		if err != nil {
			return fmt.Errorf("--%s: %w", flag, err)
		}
		for _, other := range all {
			if other.Name == name {
				return fmt.Errorf("--%s: endpoint %s has something to do already", flag, name)
			}
		}
		e := &Endpoint{Name: name}
		if err := action(e, value); err != nil {
			return fmt.Errorf("--%s %s: %w", flag, name, err)
		}
		all = append(all, e)
		return nil
	}
	for _, text := range run {
		if err := add("run", text, "NAME=COMMAND", func(e *Endpoint, line string) error { return e.run(line, "", commands) }); err != nil {
			return nil, err
		}
	}
	for _, text := range forward {
		if err := add("forward", text, "NAME=URL", func(e *Endpoint, url string) error { return e.forward(url, commands) }); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (e *Endpoint) run(line, dir string, commands *Commands) error {
	if strings.ContainsRune(line, 0) {
		return errors.New("the command has a NUL in it")
	}
	e.Run, e.handler = line, commands.Handler(line, dir)
	return nil
}

func (e *Endpoint) forward(url string, commands *Commands) error {
	upstream, err := NewForward(url, commands.Secret)
	if err != nil {
		return err
	}
	if commands.Upstream != nil {
		upstream.changed = func(h Health) { commands.Upstream(e.Name, h) }
	}
	e.Forward, e.upstream, e.handler = upstream.shown, upstream, upstream.Handle
	return nil
}

// Close lets go of what the endpoint holds.
func (e *Endpoint) Close() {
	if e.upstream != nil {
		e.upstream.Close()
	}
}

// Health returns the health of the upstream that the endpoint forwards to. ok is false if it does not forward.
func (e *Endpoint) Health() (h Health, ok bool) {
	if e.upstream == nil {
		return Health{}, false
	}
	return e.upstream.Health(), true
}

// Handler returns what handles the endpoint's deliveries, nil where they are stored and shown alone.
func (e *Endpoint) Handler() server.Handler { return e.handler }

// Options returns the endpoint's settings for server.Handle.
func (e *Endpoint) Options() []server.Option {
	var options []server.Option
	if e.filter != nil {
		options = append(options, server.WhenChecked(e.keep))
	}
	if e.Timeout > 0 {
		options = append(options, server.Timeout(e.Timeout))
	}
	if e.Attempts > 0 {
		options = append(options, server.Retry(e.Attempts, time.Second))
	}
	if e.serial != nil {
		options = append(options, server.SerialBy(e.serial.of))
	}
	if e.Debounce > 0 {
		options = append(options, server.Debounce(e.Debounce, 0, nil))
	}
	if e.Concurrency > 0 {
		options = append(options, server.Concurrency(e.Concurrency))
	}
	return options
}

// keep is the endpoint's filter, for server.WhenChecked.
func (e *Endpoint) keep(ctx context.Context, p *payload.Payload) (keep bool, why string, err error) {
	if keep, why, err = e.filter.Keep(ctx, p, e.hub); err != nil {
		err = fmt.Errorf("if: %w", err)
	}
	return keep, why, err
}

// key is an expression whose value is a serial key.
type key struct {
	program *vm.Program
	fields  []string
}

// newKey reads an expression. The error is a *FilterError.
func newKey(source string) (*key, error) {
	tree, fields, err := checkKey(source)
	if err != nil {
		return nil, err
	}
	program, err := compile(tree.String())
	if err != nil {
		return nil, filterError(err)
	}
	return &key{program, fields}, nil
}

// of returns p's key: text as it is, another value as JSON, "" for nil. If the expression fails, of panics, and the delivery is stored as
// dead with the reason.
func (k *key) of(p *payload.Payload) string {
	env, err := environment(&words{p: p}, k.fields)
	var value any
	if err == nil {
		value, err = expr.Run(k.program, env)
	}
	if err != nil {
		panic(fmt.Errorf("serial_by: %s", messageOf(err)))
	}
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Errorf("serial_by: its value can't be a key: %w", err))
	}
	return string(text)
}
