package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/internal/action"
	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/server"
)

// manyValues are the settings that a list may stand for.
var manyValues = []string{"secret", "watch", "webhook", "follow"}

// fileOptions are what hubhook.yaml is read with: each setting that is a flag of serve is a key, too.
func fileOptions(commands *action.Commands) action.Options {
	options := action.Options{Commands: commands}
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	new(server.Config).Flags(flags)
	flags.VisitAll(func(f *flag.Flag) {
		options.Settings = append(options.Settings, action.Setting{
			Name: f.Name, Many: slices.Contains(manyValues, f.Name),
			Check: func(values []string) error { return checkSetting(f.Name, values) },
		})
	})
	return options
}

// checkSetting says what is wrong with the value of a setting, whatever the others are.
func checkSetting(name string, values []string) error {
	scratch := flag.NewFlagSet("serve", flag.ContinueOnError)
	new(server.Config).Flags(scratch)
	for _, v := range values {
		if err := scratch.Set(name, v); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	_, err := server.New(server.Config{
		Getenv: func(string) (string, bool) { return "", false },
		File: func(other string) ([]string, string) {
			if other != name {
				return nil, ""
			}
			return values, name
		},
	})
	return err
}

// loadFile reads the configuration file at path; where path is "", that of the working directory, which need not be there. All that is
// wrong is wrong usage. A file that is not there is empty.
func (p *program) loadFile(path string, commands *action.Commands) (*action.File, error) {
	named := path != ""
	if !named {
		path = action.FileName
	}
	file, err := action.Load(path, fileOptions(commands))
	var broken *action.FileError
	switch {
	case err == nil:
		return file, nil
	case errors.Is(err, fs.ErrNotExist) && !named:
		return action.NoFile(path, err), nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, &usageError{text.WithHint(fmt.Errorf("--config: there is no file %s", path), "name a file that is there, or leave --config (HUBHOOK_CONFIG) out")}
	case errors.As(err, &broken):
		return nil, &usageError{fileError(err)}
	}
	return nil, fmt.Errorf("read the configuration file: %w", err)
}

// hubAsked returns what filters ask of the Hub. Its client is made at the first question, so that a
// wrong setting of the Hub's stops nobody whose filters ask nothing.
func (p *program) hubAsked() func() (action.Hub, error) {
	return sync.OnceValues(func() (action.Hub, error) { return hub.New(hub.Config{LookupEnv: p.LookupEnv}) })
}

// fileError is an error of a configuration file with a hint, where there is one to give.
func fileError(err error) error {
	var broken *action.FileError
	switch {
	case text.Hint(err) != "":
		return err
	case errors.As(err, &broken):
		return text.WithHint(err, "correct the file at that place; docs/actions.md has every key")
	case errors.Is(err, fs.ErrNotExist):
		return text.WithHint(err, "put the file back, or restart hubhook to go without it")
	}
	return err
}

// fileHere returns the configuration file that `hubhook serve` would read here: the one that HUBHOOK_CONFIG names, or that of the working
// directory. Without one it is empty.
func (p *program) fileHere() (*action.File, error) {
	path, _ := p.LookupEnv(env.Variable("config"))
	return p.loadFile(path, nil)
}

// dataOfFile returns the data directory that the configuration file here names, "" for none. A file that is broken names none: the hubhook
// that runs may go on with the version before.
func (p *program) dataOfFile() string {
	file, err := p.fileHere()
	if err != nil {
		return ""
	}
	if data, _ := file.Setting("data"); len(data) > 0 {
		return data[0]
	}
	return ""
}

// follow takes up edits of file until the function that it returns is called.
func (s *serve) follow(ctx context.Context, hooks *server.Server, file *action.File, live *action.Live, commands *action.Commands) (stop func()) {
	return followFile(ctx, file, commands, func(edited *action.File, err error) {
		if err == nil {
			err = s.checkSecret(hooks, edited.Endpoints)
		}
		s.takeUp(file.Path, live, edited, err)
	})
}

// followFile tells of edits of file until the function that it returns is called.
func followFile(ctx context.Context, file *action.File, commands *action.Commands, edited func(*action.File, error)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		action.Follow(ctx, file, fileOptions(commands), edited)
	}()
	return func() { cancel(); <-ended }
}

// sayBroken says what is wrong with an edit of the configuration file.
func (p *program) sayBroken(err error) {
	server.PrintError(p.Stderr, text.WithHint(fmt.Errorf("%w; hubhook goes on with the version before", err), text.Hint(fileError(err))))
}

// sayLater says which settings of an edit wait for the next start.
func (p *program) sayLater(path string, settings []string) {
	if len(settings) > 0 {
		server.PrintError(p.Stderr, text.WithHint(fmt.Errorf("%s: the change of %s takes effect at the next start", path, strings.Join(settings, ", ")), "restart hubhook"))
	}
}

// takeUp has the server work as the edited file says, or as before where that is broken, and says so.
func (s *serve) takeUp(path string, live *action.Live, edited *action.File, err error) {
	if err != nil {
		s.sayBroken(err)
		return
	}
	later, err := live.Replace(edited)
	if err != nil { // hubhook ends
		return
	}
	s.note("%s was edited, and is taken up.", path)
	s.sayLater(path, later)
}
