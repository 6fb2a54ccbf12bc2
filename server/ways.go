package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hubhook/hubhook/hub/keep"
	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/tunnel"
	"github.com/hubhook/hubhook/ui"
)

// askTunnel is the value of --tunnel that makes hubhook ask again.
const askTunnel = "ask"

// The names of the ways without a public URL.
const (
	wayNone   = "none"
	wayFollow = "follow"
)

// choiceFile holds the answer in the data directory: the name of a way, and, after a space, the answer to the way's own question. It holds
// no secret.
const choiceFile = "tunnel-choice"

// longestChoice is more than an answer needs, in bytes.
const longestChoice = 1024

// offer is a way that can be chosen, with the registration that has it; without one there is no public URL.
type offer struct {
	tunnel.Way
	provider string
}

// command is what to add to the command line for it.
func (o offer) command() string {
	switch {
	case o.Name == wayFollow:
		return "--follow TYPE:NAME"
	case o.Secret, o.provider == "":
		return ""
	case o.Flag == "":
		return "--tunnel " + o.provider
	}
	return "--" + o.Flag + " " + cmp.Or(o.Value, o.Want)
}

// offers are the ways of this machine, in the order of the question, and last the two without a public URL.
func offers() []offer {
	var all []offer
	for _, provider := range tunnel.Registered() {
		for _, way := range provider.Ways {
			if way.Ready == nil || way.Ready() {
				all = append(all, offer{way, provider.Name})
			}
		}
	}
	return append(all,
		offer{Way: tunnel.Way{Name: wayFollow, Offer: "no public URL: hubhook reads on the Hub what happens"}},
		offer{Way: tunnel.Way{Name: wayNone, Offer: "no public URL: only this machine can reach the endpoints"}})
}

// choice is an answer.
type choice struct {
	offer
	value string // what the way's question was answered, "" without a question
}

// undecided reports whether no setting says how the public URL is to be opened, and the default provider has no credential.
func (srv *Server) undecided() bool {
	s := &srv.settings
	if s.Provider != nil || s.underDev {
		return false
	}
	if s.askAnew {
		return true
	}
	if s.places["tunnel"] != "" || s.places["url"] != "" {
		return false
	}
	for _, provider := range tunnel.Registered() {
		for _, f := range provider.Flags {
			if value, _ := s.providerSetting(f.Name); value != "" {
				return false
			}
		}
	}
	def, _ := tunnel.Lookup(s.Tunnel)
	return def.HasCredential != nil && !def.HasCredential(srv.providerSettings(choice{}))
}

// canAsk reports whether somebody is there to ask: on a terminal for input and output, and not in CI, where some have one, too.
func (r *run) canAsk() bool {
	s := &r.settings
	output, ok := s.Output.(*os.File)
	if s.Output == nil {
		output, ok = os.Stdout, true
	}
	return ok && !s.JSON && s.getenv(env.CI) == "" && ui.CanReadKeys(output) && ui.CanReadKeys(s.Keys)
}

// openPublic opens the public URL by the way that is set, or else chosen on the terminal, now or at an earlier start. It returns the
// provider, nil where there is to be no public URL, and whether a later try may succeed. Its error is ctx's.
func (r *run) openPublic(ctx context.Context) (p tunnel.Provider, again bool, err error) {
	if !r.opensTunnel() {
		return nil, false, nil
	}
	undecided := r.undecided()
	if !undecided || !r.canAsk() {
		p = r.provider(choice{})
		again = r.firstTunnel(ctx, p)
		if undecided && ctx.Err() == nil && r.tunnel == nil {
			r.listWays()
		}
		return p, again, nil
	}
	r.asking.Store(true)
	chosen, kept, err := r.choose(ctx)
	r.asking.Store(false)
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}
	if err != nil { // nobody has answered
		r.screen.Info(ui.Notice{Text: "There was no answer, so hubhook goes on without a public URL."})
		chosen = choice{offer: offer{Way: tunnel.Way{Name: wayNone}}}
		kept = true // so that the next start asks
	}
	if chosen.provider == "" {
		if chosen.Name == wayNone && !kept {
			r.remember(chosen)
		}
		r.setWay("", keep.Unchecked)
		return nil, false, nil
	}
	p = r.provider(chosen)
	again = r.firstTunnel(ctx, p)
	if !kept && (again || r.tunnel != nil) {
		r.remember(chosen)
	}
	return p, again, nil
}

// choose returns the answer that the data directory keeps, or asks for one. An error that is not ctx's says that there was no answer.
func (r *run) choose(ctx context.Context) (c choice, kept bool, err error) {
	if !r.settings.askAnew {
		c, kept = r.remembered()
	}
	if !kept {
		if c, err = r.askWay(ctx); err != nil {
			return c, false, err
		}
	}
	switch {
	case !kept && c.Name == wayFollow:
		r.screen.Info(ui.Notice{Text: "Start again with --follow TYPE:NAME, dataset:me/data for example. Until then only this machine can reach the endpoints."})
	case kept && c.Name == wayNone:
		r.screen.Info(ui.Notice{Text: "There is no public URL, as you chose in this directory; --tunnel ask asks again."})
	case kept:
		r.screen.Info(ui.Notice{Text: fmt.Sprintf("The public URL comes from %s, as you chose in this directory; --tunnel ask asks again.", cmp.Or(c.value, c.Name))})
	}
	if c.Question == "" || c.value != "" || c.Secret && r.hasCredential(c.provider) {
		return c, kept, nil
	}
	if c.value, err = r.askValue(ctx, c.Way); err != nil {
		return c, kept, err
	}
	if c.value == "" {
		return c, kept, io.EOF
	}
	return c, kept, nil
}

func (r *run) hasCredential(provider string) bool {
	known, _ := tunnel.Lookup(provider)
	return known.HasCredential == nil || known.HasCredential(r.providerSettings(choice{}))
}

// askWay asks until there is an answer. Enter alone means no public URL, which is the safe answer.
func (r *run) askWay(ctx context.Context) (choice, error) {
	all := offers()
	r.screen.Info(ui.Notice{Text: r.where.get().local + " works. How shall the Hub reach it?"})
	r.screen.Info(ui.Notice{Text: "Nothing is sent through a service that you have not chosen."})
	for i, o := range all {
		r.screen.Info(ui.Notice{Text: fmt.Sprintf("  %d  %-13s  %s", i+1, o.Name, o.Offer)})
	}
	question := fmt.Sprintf("Type a number from 1 to %d, then Enter; Enter alone is %s:", len(all), wayNone)
	for {
		r.screen.Info(ui.Notice{Text: question})
		line, err := ui.ReadLine(ctx, r.settings.Keys)
		if err != nil {
			return choice{}, err
		}
		if o, ok := pick(all, line); ok {
			return choice{offer: o}, nil
		}
		r.screen.Info(ui.Notice{Text: fmt.Sprintf("%q is none of them.", text.Printable(strings.TrimSpace(line), 40))})
	}
}

// pick returns the offer that an answer means, by its number or its name.
func pick(all []offer, answer string) (offer, bool) {
	answer = strings.ToLower(strings.TrimSpace(answer))
	if answer == "" {
		answer = wayNone
	}
	n, err := strconv.Atoi(answer)
	for i, o := range all {
		if o.Name == answer || err == nil && n == i+1 {
			return o, true
		}
	}
	return offer{}, false
}

func (r *run) askValue(ctx context.Context, way tunnel.Way) (string, error) {
	question, read := way.Question+" (Enter alone gives up):", ui.ReadLine
	if way.Secret {
		question, read = way.Question+" (it is not shown; Enter alone gives up):", ui.ReadSecret
	}
	r.screen.Info(ui.Notice{Text: question})
	value, err := read(ctx, r.settings.Keys)
	if value = strings.TrimSpace(value); way.Keep != "" && value != "" && err == nil {
		r.screen.Info(ui.Notice{Text: way.Keep})
	}
	return value, err
}

// listWays says how to get a public URL where nobody can be asked.
func (r *run) listWays() {
	r.screen.Info(ui.Notice{Text: "To choose another way, start again with one of:"})
	for _, o := range offers() {
		if command := o.command(); command != "" {
			r.screen.Info(ui.Notice{Text: fmt.Sprintf("  %-25s  %s", command, o.Offer)})
		}
	}
}

// remembered returns the answer that the data directory keeps, if it has one that can still be taken.
func (r *run) remembered() (c choice, ok bool) {
	c, ok, err := keptChoice(r.settings.Data)
	if err != nil {
		r.screen.Warn(ui.Notice{Text: err.Error(), Hint: "it is asked again; make the file readable, or remove it"})
	}
	return c, ok
}

// keptChoice returns the answer that a data directory keeps, if it has one that can still be taken.
func keptChoice(dir string) (c choice, ok bool, err error) {
	path := filepath.Join(dir, choiceFile)
	content, err := readChoice(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return choice{}, false, nil
	case err != nil:
		return choice{}, false, fmt.Errorf("read how the public URL was to be opened from %s: %w", path, text.FileCause(err))
	}
	name, value, _ := strings.Cut(strings.TrimSpace(content), " ")
	for _, o := range offers() {
		if o.Name == name && (o.Question == "" || o.Secret) == (value == "") {
			return choice{o, value}, true, nil
		}
	}
	return choice{}, false, nil
}

func readChoice(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > longestChoice { // a pipe would block
		return "", errors.New("it is not a small regular file")
	}
	content, err := os.ReadFile(path)
	return string(content), err
}

// remember keeps the answer for later starts. A secret is no part of it.
func (r *run) remember(c choice) {
	path := filepath.Join(r.settings.Data, choiceFile)
	line := c.Name
	if c.Question != "" && !c.Secret {
		line += " " + c.value
	}
	err := os.Remove(path) // a link is not followed, and the new file has the mode below
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.WriteFile(path, []byte(line+"\n"), 0o600)
	}
	if err != nil {
		r.screen.Warn(ui.Notice{Text: fmt.Sprintf("keep the answer in %s: %v", path, text.FileCause(err)), Hint: "the next start asks again; make the data directory writable"})
		return
	}
	r.screen.Info(ui.Notice{Text: "This directory's next starts do the same; --tunnel ask asks again."})
}
