package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// PageConfig sets up a page.
type PageConfig struct {
	// Width and Height are the size of the viewport, in CSS pixels. Default 1280 and 800.
	Width, Height int
	// Dark tells the page that its reader prefers dark colours.
	Dark bool
	// Patience bounds each wait for a condition. Default 10 s.
	Patience time.Duration
	// Script runs in each document before its own scripts do.
	Script string
}

// Page is one tab. Only one goroutine at a time may use it.
type Page struct {
	ctx      context.Context
	close    context.CancelFunc
	patience time.Duration

	answering sync.WaitGroup // answers to dialogs that are being sent

	mu        sync.Mutex // guards what follows, which events change
	heard     []heard
	requests  []string
	dialogs   []string
	answers   []bool // for the next dialogs
	documents int    // main documents that were loaded
}

// heard is one entry of the developer tools.
type heard struct {
	what, text string
}

// NewPage opens an empty page.
func (b *Browser) NewPage(c PageConfig) (*Page, error) {
	if c.Width == 0 {
		c.Width = 1280
	}
	if c.Height == 0 {
		c.Height = 800
	}
	if c.Patience == 0 {
		c.Patience = 10 * time.Second
	}
	p := &Page{patience: c.Patience}
	p.ctx, p.close = chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.hear))
	err := chromedp.Do(p.ctx,
		call(log.Enable, cdp.Empty{}),
		call(network.Enable, network.EnableParams{}),
		call(performance.Enable, performance.EnableParams{}),
		// Only one page of a browser is in front. This gives each page the keyboard all the same.
		call(emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}),
		call(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: c.Script}),
	)
	if err == nil {
		err = p.Look(c.Width, c.Height, c.Dark)
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("open a page: %w", err)
	}
	return p, nil
}

// Close closes the page and forgets its cookies.
func (p *Page) Close() {
	p.close()
	p.answering.Wait()
}

// Context returns the context for package chromedp's actions on this page. It ends with the page.
func (p *Page) Context() context.Context { return p.ctx }

// call makes a chromedp action of a command, and discards the command's answer.
func call[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, command, params)
		return err
	})
}

// Look changes the size of the viewport, in CSS pixels, and whether the reader prefers dark colours.
func (p *Page) Look(width, height int, dark bool) error {
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	err := chromedp.Do(p.ctx,
		call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: int64(width), Height: int64(height), DeviceScaleFactor: 1}),
		call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme},
			{Name: "prefers-reduced-motion", Value: "reduce"},
		}}),
	)
	if err != nil {
		return fmt.Errorf("look at the page at %d by %d, %s: %w", width, height, scheme, err)
	}
	return nil
}

// hear is called for each event, in order, and must not wait for the browser.
func (p *Page) hear(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type != "error" && e.Type != "warning" && e.Type != "assert" {
			return
		}
		var text []string
		for _, a := range e.Args {
			if a.Description != "" {
				text = append(text, a.Description)
			} else {
				text = append(text, string(a.Value))
			}
		}
		p.heard = append(p.heard, heard{"console." + string(e.Type), strings.Join(text, " ")})
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		p.heard = append(p.heard, heard{"exception", text})
	case *log.EventEntryAdded:
		if e.Entry.Level != "error" && e.Entry.Level != "warning" {
			return
		}
		text := e.Entry.Text
		if e.Entry.URL != "" {
			text += " (" + e.Entry.URL + ")"
		}
		p.heard = append(p.heard, heard{string(e.Entry.Source) + " " + string(e.Entry.Level), text})
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, e.Request.URL)
	case *page.EventFrameNavigated:
		if e.Frame.ParentID == "" {
			p.documents++
		}
	case *page.EventJavascriptDialogOpening:
		p.dialogs = append(p.dialogs, e.Message)
		answer := false
		if len(p.answers) > 0 {
			answer, p.answers = p.answers[0], p.answers[1:]
		} else {
			p.heard = append(p.heard, heard{string(e.Type), e.Message})
		}
		// The page waits until the dialog is answered. If the answer fails, the next action on the page fails too.
		p.answering.Go(func() {
			_, _ = chromedp.Call(p.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: answer})
		})
	}
}

// AnswerNext sets the answer to the next dialog (alert, confirm). A dialog without a set answer is a complaint, and is answered no.
func (p *Page) AnswerNext(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers = append(p.answers, yes)
}

// Dialogs returns the texts of the dialogs so far.
func (p *Page) Dialogs() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.dialogs)
}

// Requests returns the URLs of all requests so far.
func (p *Page) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// Documents returns how many documents were loaded so far. Each reload adds one.
func (p *Page) Documents() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.documents
}

// Complaints returns what is wrong with the page so far: errors and warnings of the console, uncaught exceptions, violations of its
// policy, dialogs that nobody expected, and requests to another origin than those given, such as "http://127.0.0.1:7861".
func (p *Page) Complaints(origins ...string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var complaints []string
	for _, h := range p.heard {
		complaints = append(complaints, h.what+": "+h.text)
	}
	for _, r := range p.requests {
		u, err := url.Parse(r)
		if err == nil && (u.Scheme == "data" || u.Scheme == "blob" || slices.Contains(origins, u.Scheme+"://"+u.Host)) {
			continue
		}
		complaints = append(complaints, "request to another origin: "+r)
	}
	return complaints
}

// Forgive removes the complaints so far that contain one of the texts, and returns how many they were. It is for complaints that a test
// causes on purpose.
func (p *Page) Forgive(texts ...string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(p.heard)
	p.heard = slices.DeleteFunc(p.heard, func(h heard) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(h.what+": "+h.text, text) })
	})
	return before - len(p.heard)
}

// Open loads a URL and returns once its document and the scripts in it are loaded.
func (p *Page) Open(url string) error {
	if err := chromedp.Do(p.ctx, chromedp.Navigate(url)); err != nil {
		return fmt.Errorf("open the page: %w", err)
	}
	return nil
}

// Evaluate evaluates a JavaScript expression as the page itself would. If the value is a promise, it waits for that. It stores the value
// in result, unless result is nil.
func (p *Page) Evaluate(expression string, result any) error {
	no := false // by default the developer tools may ignore the page's policy
	options := []chromedp.EvaluateOption{
		chromedp.EvalAwaitPromise,
		func(e *runtime.EvaluateParams) { e.AllowUnsafeEvalBlockedByCSP = &no },
	}
	var err error
	if result == nil {
		_, err = chromedp.Run(p.ctx, chromedp.Evaluate[chromedp.Void](expression, options...))
	} else {
		var value []byte
		if value, err = chromedp.Run(p.ctx, chromedp.Evaluate[[]byte](expression, options...)); err == nil {
			err = json.Unmarshal(value, result)
		}
	}
	if err != nil {
		return fmt.Errorf("evaluate %.200s: %w", expression, err)
	}
	return nil
}

// between two looks at a condition
const between = 15 * time.Millisecond

// Until calls look until it reports true. If that takes too long, the error has what and what the last look found.
func (p *Page) Until(what string, look func() (ok bool, found string, err error)) error {
	ctx, cancel := context.WithTimeout(p.ctx, p.patience)
	defer cancel()
	again := time.NewTicker(between)
	defer again.Stop()
	for {
		ok, found, err := look()
		if ok && err == nil {
			return nil
		}
		if err != nil {
			found = err.Error()
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			err := fmt.Errorf("wait for %s: not within %v", what, p.patience)
			if found != "" {
				err = fmt.Errorf("%w; there was: %s", err, found)
			}
			return err
		}
	}
}

// Wait waits for a JavaScript expression to be truthy. The error has the text of the page.
func (p *Page) Wait(what, expression string) error {
	err := p.Until(what, func() (bool, string, error) {
		var ok bool
		// A page that loads has no document for a moment.
		err := p.Evaluate("Boolean("+expression+")", &ok)
		return ok, "", err
	})
	if err == nil {
		return nil
	}
	// Read the text only on failure: for the text of a large page, the browser lays out all of it.
	var text string
	if err := p.Evaluate("(document.querySelector('dialog[open]') ?? document.body)?.innerText.slice(0, 3000) ?? ''", &text); err != nil {
		text = err.Error()
	}
	return fmt.Errorf("%w; the page shows: %s", err, text)
}

// Element is a part of a page as a screen reader sees it.
type Element struct {
	Role, Name string
	Disabled   bool
	id         cdp.BackendNodeID
}

// Elements returns the elements of a role, such as "button", that can be perceived: not those behind an open dialog, for instance.
func (p *Page) Elements(role string) ([]Element, error) {
	document, err := chromedp.Call(p.ctx, dom.GetDocument, dom.GetDocumentParams{})
	if err != nil {
		return nil, fmt.Errorf("look for elements of the role %s: %w", role, err)
	}
	answer, err := chromedp.Call(p.ctx, accessibility.QueryAXTree, accessibility.QueryAXTreeParams{BackendNodeID: document.Root.BackendNodeID, Role: role})
	if err != nil {
		return nil, fmt.Errorf("look for elements of the role %s: %w", role, err)
	}
	var found []Element
	for _, n := range answer.Nodes {
		if n.Ignored {
			continue
		}
		e := Element{Role: role, id: n.BackendDOMNodeID}
		if n.Name != nil && len(n.Name.Value) > 0 {
			if err := json.Unmarshal(n.Name.Value, &e.Name); err != nil {
				return nil, fmt.Errorf("read the name of an element of the role %s: %w", role, err)
			}
		}
		for _, property := range n.Properties {
			if property.Name == "disabled" && property.Value != nil {
				e.Disabled = string(property.Value.Value) == "true"
			}
		}
		found = append(found, e)
	}
	return found, nil
}

// find returns the one element of a role and an accessible name. If there is none, or several, found names the elements of that role.
func (p *Page) find(role, name string) (e Element, ok bool, found string, err error) {
	all, err := p.Elements(role)
	if err != nil {
		return e, false, "", err
	}
	n := 0
	names := make([]string, len(all))
	for i, candidate := range all {
		names[i] = fmt.Sprintf("%q", candidate.Name)
		if candidate.Name == name {
			e = candidate
			n++
		}
	}
	return e, n == 1, "those with the names " + strings.Join(names, ", "), nil
}

// Find waits for the one element of a role and an accessible name.
func (p *Page) Find(role, name string) (e Element, err error) {
	err = p.Until(fmt.Sprintf("one %s %q", role, name), func() (ok bool, found string, err error) {
		e, ok, found, err = p.find(role, name)
		return ok, found, err
	})
	return e, err
}

// Click waits for the element of a role and an accessible name to be there and enabled, and clicks on its middle with the mouse.
func (p *Page) Click(role, name string) error {
	// If the page redraws the element between the look and the click, try again.
	return p.Until(fmt.Sprintf("%s %q to be enabled and clicked on", role, name), func() (bool, string, error) {
		e, ok, found, err := p.find(role, name)
		if err != nil || !ok {
			return false, found, err
		}
		if e.Disabled {
			return false, "it, disabled", nil
		}
		err = p.click(e)
		return err == nil, "", err
	})
}

func (p *Page) click(e Element) error {
	if _, err := chromedp.Call(p.ctx, dom.ScrollIntoViewIfNeeded, dom.ScrollIntoViewIfNeededParams{BackendNodeID: e.id}); err != nil {
		return err
	}
	answer, err := chromedp.Call(p.ctx, dom.GetContentQuads, dom.GetContentQuadsParams{BackendNodeID: e.id})
	if err != nil {
		return err
	}
	if len(answer.Quads) == 0 || len(answer.Quads[0]) != 8 {
		return errors.New("it has no place on the page")
	}
	q := answer.Quads[0]
	return chromedp.Do(p.ctx, chromedp.MouseClickXY((q[0]+q[2]+q[4]+q[6])/4, (q[1]+q[3]+q[5]+q[7])/4))
}

// Focus puts the keyboard's focus on the element of a role and an accessible name.
func (p *Page) Focus(role, name string) error {
	e, err := p.Find(role, name)
	if err == nil {
		_, err = chromedp.Call(p.ctx, dom.Focus, dom.FocusParams{BackendNodeID: e.id})
	}
	if err != nil {
		return fmt.Errorf("focus %s %q: %w", role, name, err)
	}
	return nil
}

// Fill replaces the text in a field.
func (p *Page) Fill(role, name, text string) error {
	if err := p.Focus(role, name); err != nil {
		return err
	}
	if err := p.Evaluate("document.activeElement.select()", nil); err != nil {
		return err
	}
	if _, err := chromedp.Call(p.ctx, input.InsertText, input.InsertTextParams{Text: text}); err != nil {
		return fmt.Errorf("fill %s %q: %w", role, name, err)
	}
	return nil
}

// Press presses keys, one after the other: letters, signs and the keys of package kb.
func (p *Page) Press(keys string) error {
	for _, key := range keys {
		events := kb.Encode(key)
		down, up := *events[0], *events[len(events)-1]
		if len(events) == 3 {
			// Send one event, as a keyboard does: if the page prevents it, no text is written. With a separate event for the text, it would be.
			down.Type, down.Text, down.UnmodifiedText = "keyDown", events[1].Text, events[1].UnmodifiedText
		}
		for _, event := range []input.DispatchKeyEventParams{down, up} {
			if _, err := chromedp.Call(p.ctx, input.DispatchKeyEvent, event); err != nil {
				return fmt.Errorf("press %q: %w", key, err)
			}
		}
	}
	return nil
}

// Choose waits until the select element of a CSS selector has an option with this text. Then it chooses the option as a user of the page
// would.
func (p *Page) Choose(selector, text string) error {
	return p.Until(fmt.Sprintf("the option %q of %s", text, selector), func() (bool, string, error) {
		var texts []string
		err := p.Evaluate(fmt.Sprintf(`(() => {
			const select = document.querySelector(%s);
			const options = [...select?.options ?? []];
			const chosen = options.find((o) => o.text === %s);
			if (!chosen) return options.map((o) => o.text);
			select.value = chosen.value;
			select.dispatchEvent(new Event("change", { bubbles: true }));
			return null;
		})()`, Literal(selector), Literal(text)), &texts)
		return err == nil && texts == nil, fmt.Sprintf("%q", texts), err
	})
}

// Literal returns a value as JavaScript source.
func Literal(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("browser: a literal of %T: %v", value, err))
	}
	return string(text)
}

// ScriptTime returns how long scripts have run on the page since it was opened, with those of Evaluate and Wait.
func (p *Page) ScriptTime() (time.Duration, error) {
	answer, err := chromedp.Call(p.ctx, performance.GetMetrics, cdp.Empty{})
	if err != nil {
		return 0, fmt.Errorf("ask the page for its times: %w", err)
	}
	for _, m := range answer.Metrics {
		if m.Name == "ScriptDuration" {
			return time.Duration(m.Value * float64(time.Second)), nil
		}
	}
	return 0, errors.New("ask the page for its times: the browser does not tell ScriptDuration")
}

// Picture returns the visible part of the page as a PNG.
func (p *Page) Picture() ([]byte, error) {
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return nil, fmt.Errorf("take a picture of the page: %w", err)
	}
	return png, nil
}
