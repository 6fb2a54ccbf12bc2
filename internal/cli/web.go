package cli

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/server"
	"github.com/hubhook/hubhook/ui"
	"github.com/hubhook/hubhook/ui/inspector"
)

// openPage shows a page of the inspector, whose URL has the token in it, in the user's browser. Where none can be started, the URL is
// what the command prints, and why is said.
func (p *program) openPage(cmd *cobra.Command, client *inspector.Client, page string) error {
	u, err := url.Parse(page)
	if err != nil {
		return fmt.Errorf("open the page: %w", err)
	}
	pass, err := client.Pass(cmd.Context())
	if err != nil {
		return explain(err)
	}
	query := u.Query()
	query.Set("token", pass)
	u.RawQuery = query.Encode()
	err = ui.OpenBrowser(u.String())
	if err == nil {
		query.Del("token")
		u.RawQuery = query.Encode()
		p.note("Opened %s in your browser.", u)
		return nil
	}
	if failed, ok := errors.AsType[*ui.BrowserError](err); ok {
		err = failed.Err // without the URL, which follows
	}
	server.PrintError(p.Stderr, text.WithHint(fmt.Errorf("%sstart a browser: %w", act(cmd), err),
		"open the URL that follows in a browser of this machine, or of another one through ssh -L; the inspector's token is in it"))
	fmt.Fprintln(p.out, page) // Main reports its error
	return nil
}

// alone refuses a command line that has the flag name and another one of those named.
func alone(cmd *cobra.Command, name string, others ...string) error {
	for _, other := range others {
		if given(cmd, name) && given(cmd, other) {
			return wrongUsage(cmd, "--%s and --%s don't go together", other, name)
		}
	}
	return nil
}

// given reports whether one of these flags is on the command line, and so outweighs the variables of others.
func given(cmd *cobra.Command, names ...string) bool {
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return true
		}
	}
	return false
}
