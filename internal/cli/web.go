package cli

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/server"
	"github.com/hubhook/hubhook/ui"
)

// openPage shows a page of the inspector, whose URL has the token in it, in the user's browser. Where none can be started, the URL is
// what the command prints, and why is said.
func (p *program) openPage(cmd *cobra.Command, address string) {
	shown, err := url.Parse(address)
	if err == nil {
		query := shown.Query()
		query.Del("token")
		shown.RawQuery = query.Encode()
		err = ui.OpenBrowser(address)
	}
	if err == nil {
		p.note("Opened %s in your browser.", shown)
		return
	}
	var browser *ui.BrowserError
	if errors.As(err, &browser) {
		err = browser.Err // without the URL, which follows
	}
	server.PrintError(p.Stderr, &advised{
		err:  fmt.Errorf("%sstart a browser: %w", act(cmd), err),
		hint: "open the URL that follows in a browser of this machine, or of another one through ssh -L; the inspector's token is in it",
	})
	fmt.Fprintln(p.out, address) // Main reports its error
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
