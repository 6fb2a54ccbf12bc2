// Package checkup runs checks of a hubhook and of what it needs.
package checkup

import (
	"cmp"
	"context"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/text"
)

// Limit is how long one check may take. Each has shorter limits of its own where it waits for somebody else.
const Limit = 10 * time.Second

// Check finds one thing out.
type Check struct {
	Name  string // a word or two, lower case
	Doing string // what a slow one does meanwhile, "looking up example.com"; "" for a quick one
	// Run ends with its context, and soon in any case. The Name of what it returns is ignored.
	Run func(context.Context) api.Finding
	// All replaces Run where it is not known before how many things there are to find out. A finding without a Name gets that of the check.
	All func(context.Context) []api.Finding
}

// patience is how long a check may take before it is said what it does.
const patience = 300 * time.Millisecond

// Run makes the checks of each list in order, and all lists at the same time. It calls found for each finding, in the order of lists, and
// doing for a check that it has to wait for, after a moment. It returns once all checks have ended.
func Run(ctx context.Context, lists [][]Check, doing func(Check), found func(api.Finding)) {
	results := make([]chan []api.Finding, len(lists))
	for i, list := range lists {
		results[i] = make(chan []api.Finding, len(list))
		go func() {
			for _, check := range list {
				results[i] <- check.run(ctx)
			}
		}()
	}
	for i, list := range lists {
		for _, check := range list {
			for _, f := range await(check, results[i], doing) {
				found(f)
			}
		}
	}
}

// await returns what a check has found, and tells what it does where that takes a while.
func await(check Check, result <-chan []api.Finding, doing func(Check)) []api.Finding {
	if check.Doing != "" {
		wait := time.NewTimer(patience)
		defer wait.Stop()
		select {
		case findings := <-result:
			return findings
		case <-wait.C:
			doing(check)
		}
	}
	return <-result
}

func (c Check) run(ctx context.Context) []api.Finding {
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	if c.All == nil {
		f := c.Run(ctx)
		f.Name = c.Name
		return []api.Finding{f}
	}
	findings := c.All(ctx)
	for i := range findings {
		findings[i].Name = cmp.Or(findings[i].Name, c.Name)
	}
	return findings
}

// Known is a check whose finding is known already.
func Known(name string, f api.Finding) Check {
	return Check{Name: name, Run: func(context.Context) api.Finding { return f }}
}

// OK is the finding that all is well.
func OK(text string) api.Finding { return api.Finding{Result: api.OK, Text: text} }

// Warn is the finding that something works and might be better.
func Warn(text, fix string) api.Finding { return api.Finding{Result: api.Warn, Text: text, Fix: fix} }

// Fail is the finding that something does not work, with the error's hint as the fix.
func Fail(err error) api.Finding {
	return api.Finding{Result: api.Fail, Text: err.Error(), Fix: text.Hint(err)}
}

// Skip is the finding that there is nothing to check, or that it can't be checked.
func Skip(text string) api.Finding { return api.Finding{Result: api.Skip, Text: text} }
