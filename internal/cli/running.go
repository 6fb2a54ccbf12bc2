package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/ui/inspector"
)

// where says which running hubhook a command talks to.
type where struct {
	server, data string
}

// addWhere gives cmd the flags --server and --data.
func addWhere(cmd *cobra.Command) *where {
	w := &where{}
	w.addTo(cmd)
	return w
}

func (w *where) addTo(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.server, "server", "", "`URL` of the running hubhook's inspector, as its banner shows it")
	cmd.Flags().StringVar(&w.data, "data", "", "data `DIR` of the running hubhook (default that of this working directory)")
}

// client returns a client of the running hubhook that w names, or of the one that was started in this working directory.
func (p *program) client(cmd *cobra.Command, w *where) (*inspector.Client, error) {
	byServer := w.server != ""
	if cmd.Flags().Changed("data") && !cmd.Flags().Changed("server") {
		byServer = false // HUBHOOK_SERVER does not outweigh a flag
	}
	if byServer {
		return p.clientOf(w)
	}
	var address inspector.Address
	var err error
	if data := cmp.Or(w.data, p.dataOfFile()); data != "" {
		address, err = inspector.ReadAddress(data)
	} else {
		address, err = p.addressHere()
	}
	if err != nil {
		return nil, explain(err)
	}
	return inspector.NewClient(address.URL, address.Token), nil
}

// clientOf returns a client of the inspector at w.server. Its token is in the URL, in HUBHOOK_INSPECTOR_TOKEN, or in the data directory
// of the hubhook that left this address there.
func (p *program) clientOf(w *where) (*inspector.Client, error) {
	address := w.server
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		// Without the text: there may be a token in it.
		return nil, &usageError{text.WithHint(errors.New("--server: not an http URL"), "give the inspector's URL, such as http://127.0.0.1:7861")}
	}
	if u.Query().Get("token") != "" {
		return inspector.NewClient(address, ""), nil
	}
	if token, _ := p.LookupEnv(env.InspectorToken); token != "" {
		return inspector.NewClient(address, token), nil
	}
	for _, a := range p.knownAddresses(cmp.Or(w.data, p.dataOfFile())) {
		if sameHost(a.URL, u) {
			return inspector.NewClient(address, a.Token), nil
		}
	}
	return inspector.NewClient(address, ""), nil // which is refused, and says that it wants the token
}

func sameHost(address string, u *url.URL) bool {
	a, err := url.Parse(address)
	if err != nil || a.Port() != u.Port() {
		return false
	}
	return a.Hostname() == u.Hostname() || u.Hostname() == "localhost"
}

// knownAddresses returns those of the data directory dir, or of this working directory's ones if dir is "".
func (p *program) knownAddresses(dir string) []inspector.Address {
	if dir != "" {
		a, err := inspector.ReadAddress(dir)
		if err != nil {
			return nil
		}
		return []inspector.Address{a}
	}
	_, live, _ := p.liveHere()
	addresses := make([]inspector.Address, 0, len(live))
	for _, l := range live {
		addresses = append(addresses, l.Address)
	}
	return addresses
}

// liveProgram is a program with hubhook in it that runs, started in this working directory.
type liveProgram struct {
	inspector.Address
	name string // of the program
	dir  string // its data directory
}

// liveHere returns the running programs of this working directory, hubhook itself or one that uses the library. The data directories of
// all of them are in workspace. failed is why another one's address could not be read.
func (p *program) liveHere() (workspace string, live []liveProgram, failed error) {
	workspace, err := p.workspace()
	if err != nil {
		return "", nil, err
	}
	entries, err := os.ReadDir(workspace)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return workspace, nil, fmt.Errorf("look for running programs: %w", err)
	}
	for _, e := range entries {
		dir := filepath.Join(workspace, e.Name())
		a, err := inspector.ReadAddress(dir)
		switch {
		case err == nil:
			live = append(live, liveProgram{Address: a, name: e.Name(), dir: dir})
		case !errors.Is(err, inspector.ErrNotRunning):
			failed = err
		}
	}
	return workspace, live, failed
}

// addressHere returns the address of the hubhook that was started in this working directory, or else of the one program that was.
func (p *program) addressHere() (inspector.Address, error) {
	workspace, live, err := p.liveHere()
	for _, l := range live {
		if l.name == "hubhook" || len(live) == 1 {
			return l.Address, nil
		}
	}
	switch {
	case len(live) > 1:
		var hint strings.Builder
		hint.WriteString("name one of them:")
		for _, l := range live {
			fmt.Fprintf(&hint, "\n--data %s", l.dir)
		}
		return inspector.Address{}, text.WithHint(fmt.Errorf("%d programs run in this working directory", len(live)), hint.String())
	case err != nil:
		return inspector.Address{}, err
	}
	return inspector.Address{}, fmt.Errorf("%w that was started in this directory (none of %s has an inspector)", inspector.ErrNotRunning, workspace)
}

// explain adds to an error of the inspector's client what to do about it.
func explain(err error) error {
	hint := ""
	var status *inspector.StatusError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, inspector.ErrNotRunning):
		hint = "start it here with: hubhook serve\nor name the running one with --data DIR or --server URL; one with --inspector off can't be reached"
	case errors.As(err, &status):
		switch status.Status {
		case http.StatusUnauthorized:
			hint = "give --server the whole URL that the banner shows, with ?token=, or set HUBHOOK_INSPECTOR_TOKEN"
		case http.StatusNotFound:
			hint = "is this the inspector's address? the banner of hubhook shows it"
		case http.StatusConflict:
			hint = "see how it stands with: hubhook deliveries show ID"
		}
	}
	return text.WithHint(err, hint)
}

// explainID is explain for a request about one delivery.
func explainID(err error) error {
	var status *inspector.StatusError
	if errors.As(err, &status) && status.Status == http.StatusNotFound {
		return text.WithHint(err, "see what there is with: hubhook deliveries list")
	}
	return explain(err)
}
