package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hubhook/hubhook/internal/env"
)

// helpWidth is that of a terminal nobody has made wider, so that help reads the same everywhere.
const helpWidth = 80

// slop is how far pflag goes beyond the width to avoid a line of one short word.
const slop = 5

// setHelp makes root and the commands below it print our help instead of cobra's.
func setHelp(p *program, root *cobra.Command) {
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { fmt.Fprint(p.out, helpText(cmd)) })
	root.SetHelpCommand(&cobra.Command{
		Use:     "help [COMMAND]",
		GroupID: groupOther,
		Short:   "print the help of a command",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if about, _, err := cmd.Root().Find(args); err == nil {
				for _, c := range about.Commands() {
					if c.IsAvailableCommand() {
						names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return wrongUsageHint(cmd, "see hubhook --help", "there is no command %q", strings.Join(args, " "))
			}
			return about.Help()
		},
	})
}

func helpText(cmd *cobra.Command) string {
	var b strings.Builder
	about := cmd.Long
	if about == "" {
		about = cmd.Short
	}
	fmt.Fprintf(&b, "%s\n\nUsage:\n", about)
	if cmd.Runnable() {
		fmt.Fprintf(&b, "  %s\n", cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s COMMAND [flags]\n", cmd.CommandPath())
	}
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	commands := func(title, group string) {
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() && c.GroupID == group {
				if title != "" {
					fmt.Fprintf(&b, "\n%s\n", title)
					title = ""
				}
				fmt.Fprintf(&b, "  %-12s %s\n", c.Name(), c.Short)
			}
		}
	}
	commands("Commands:", "")
	for _, g := range cmd.Groups() {
		commands(g.Title, g.ID)
	}
	if !cmd.HasParent() {
		// All flags of serve here would hide what a newcomer looks for.
		fmt.Fprintf(&b, "\nhubhook serve --help lists the flags, hubhook COMMAND --help those of COMMAND.\n")
		return b.String()
	}
	if flags := flagsText(cmd); flags != "" {
		fmt.Fprintf(&b, "\nFlags, with the variables that stand for them:\n%s", flags)
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n%s COMMAND --help says more of each command.\n", cmd.CommandPath())
	}
	return b.String()
}

func flagsText(cmd *cobra.Command) string {
	shown := pflag.NewFlagSet("", pflag.ContinueOnError)
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		withVariable := *f
		withVariable.Usage += " [" + env.Variable(f.Name) + "]"
		if f.NoOptDefVal == "true" {
			withVariable.Value = toggle{f.Value}
		}
		shown.AddFlag(&withVariable)
	})
	return shown.FlagUsagesWrapped(helpWidth - slop)
}

// toggle is a flag that needs no value. Of those that come from package flag, pflag doesn't see that.
type toggle struct{ pflag.Value }

func (toggle) Type() string { return "bool" }
