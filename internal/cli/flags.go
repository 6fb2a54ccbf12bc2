package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
)

// flagError turns what the flag parser found wrong into an error of ours. The value is not repeated: it may be a secret.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		dashes := "--"
		if letters := unknown.GetSpecifiedShortnames(); letters != "" {
			dashes, name = "-", letters
		}
		name, _, _ = strings.Cut(name, "=")
		hint := "see " + cmd.CommandPath() + " --help"
		if near := nearFlags(cmd, name); len(near) > 0 {
			hint = fmt.Sprintf("did you mean --%s? %s", strings.Join(near, " or --"), hint)
		}
		return wrongUsageHint(cmd, hint, "unknown flag %s%s", dashes, name)
	case errors.As(err, &missing):
		return wrongUsage(cmd, "flag --%s needs a value", missing.GetFlag().Name)
	case errors.As(err, &invalid):
		return wrongUsage(cmd, "--%s: %w", invalid.GetFlag().Name, invalid.Unwrap())
	}
	return wrongUsage(cmd, "%w", err)
}

// nearFlags returns the flags that name may be meant for. Cobra knows how to suggest commands, so each flag becomes one.
func nearFlags(cmd *cobra.Command, name string) []string {
	if cmd.Flags().Lookup(name) != nil {
		return []string{name} // written with one dash
	}
	flags := &cobra.Command{SuggestionsMinimumDistance: 2}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		flags.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
	})
	return flags.SuggestionsFor(name)
}

// readVariables fills the flags of cmd that were not given from their variables. Those of server.Config it reads itself, and a secret
// has a second variable.
func (p *program) readVariables(cmd *cobra.Command) error {
	var err error
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		name := env.Variable(f.Name)
		text, _ := p.LookupEnv(name)
		_, ofServer := f.Annotations[setting]
		if f.Changed || ofServer || f.Name == "help" || f.Name == "version" || f.Name == "secret" || text == "" || err != nil {
			return
		}
		values := []string{text}
		if f.Value.Type() == "stringArray" {
			values = strings.Split(text, "\n") // a path=value of --set may have commas in it
		}
		for _, v := range values {
			if bad := f.Value.Set(v); bad != nil {
				err = wrongUsage(cmd, "%s: %w", name, bad)
				return
			}
		}
	})
	return err
}

// noArguments refuses arguments.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return wrongUsage(cmd, "unexpected argument %q", args[0])
	}
	return nil
}

// printJSON prints v as one line.
func (p *program) printJSON(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	p.out.Write(append(text.PrintableJSON(line), '\n')) // Main reports its error
	return nil
}
