package server

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/ui"
	"github.com/hubhook/hubhook/ui/inspector"
)

// obeyKeys does what is typed on the terminal until ctx ends.
func (r *run) obeyKeys(ctx context.Context, quit func()) {
	sample := 0
	err := ui.Keys(ctx, r.settings.Keys, func(key rune) {
		var err error
		switch key {
		case 't':
			err = r.pressTrigger(ctx, sample)
			sample++
		case 'r':
			err = r.pressReplay(ctx)
		case 'c':
			err = r.pressCopy()
		case 'i':
			err = r.pressInspector()
		case 'q':
			quit()
		default:
			if r.joined != nil {
				r.joined.program.Key(key)
			}
		}
		if err != nil {
			r.screen.Warn(ui.Notice{Text: fmt.Sprintf("key %c: %v", key, err), Hint: text.Hint(err)})
		}
	})
	if err != nil {
		r.screen.Warn(ui.Notice{Text: "read keys from the terminal: " + err.Error()})
	}
}

// pressTrigger sends the commonest event to each endpoint in turn.
func (r *run) pressTrigger(ctx context.Context, n int) error {
	endpoints := r.listed()
	if len(endpoints) == 0 {
		return fmt.Errorf("there is no endpoint to send a sample event to")
	}
	_, err := r.trigger(ctx, api.Trigger{Endpoint: endpoints[n%len(endpoints)].name, Scope: string(payload.ScopeRepoContent)})
	return err
}

func (r *run) pressReplay(ctx context.Context) error {
	id := r.newest.Load()
	if id == nil {
		return fmt.Errorf("nothing has arrived yet that could be replayed; press t for a sample event")
	}
	_, err := r.replay(ctx, *id, nil)
	return err
}

func (r *run) pressCopy() error {
	urls := r.endpointURLs(r.publicBase())
	if len(urls) == 0 {
		return fmt.Errorf("there is no endpoint whose URL could be copied")
	}
	if err := ui.Copy(os.Stderr, urls[0].URL); err != nil {
		return err
	}
	r.screen.Info(ui.Notice{Text: "Copied " + urls[0].URL})
	return nil
}

func (r *run) pressInspector() error {
	private := r.private.Load()
	if private == nil {
		return fmt.Errorf("the inspector is off")
	}
	err := ui.OpenBrowser(inspector.Address{URL: r.address.URL, Token: private.Pass()}.Page())
	if failed, ok := errors.AsType[*ui.BrowserError](err); ok {
		failed.URL = r.address.Page() // a person may take more than a minute
	}
	return err
}
