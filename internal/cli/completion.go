package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var shells = []string{"bash", "zsh", "fish", "powershell"}

func newCompletion(p *program) *cobra.Command {
	return &cobra.Command{
		Use:     "completion bash|zsh|fish|powershell",
		GroupID: groupOther,
		Short:   "print a script that completes hubhook's commands with the Tab key",
		Long: `Print a script that lets your shell complete hubhook's commands, flags, scopes,
endpoints and delivery IDs when you press Tab.

For the shell that you are in:
  bash         source <(hubhook completion bash)
  zsh          source <(hubhook completion zsh)
  fish         hubhook completion fish | source
  PowerShell   hubhook completion powershell | Out-String | Invoke-Expression

For all new shells. The directory has to exist, bash needs its package
bash-completion, zsh needs "autoload -U compinit; compinit" in ~/.zshrc:
  hubhook completion bash > ~/.local/share/bash-completion/completions/hubhook
  hubhook completion zsh > "${fpath[1]}/_hubhook"
  hubhook completion fish > ~/.config/fish/completions/hubhook.fish
  hubhook completion powershell >> $PROFILE`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return wrongUsage(cmd, "want one shell: %s", strings.Join(shells, ", "))
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return shells, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root, err := cmd.Root(), error(nil)
			switch args[0] {
			case "bash":
				err = root.GenBashCompletionV2(p.out, true)
			case "zsh":
				err = root.GenZshCompletion(p.out)
			case "fish":
				err = root.GenFishCompletion(p.out, true)
			case "powershell":
				err = root.GenPowerShellCompletionWithDesc(p.out)
			default:
				return wrongUsage(cmd, "unknown shell %q: want %s", args[0], strings.Join(shells, ", "))
			}
			if err != nil {
				return fmt.Errorf("completion: write the script: %w", err)
			}
			return nil
		},
	}
}

// plainFlags takes the backquotes out of what the flags of cmd and the commands below it say of themselves. They mark the name of a
// flag's value for help; completion would show them.
func plainFlags(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { _, f.Usage = pflag.UnquoteUsage(f) })
	for _, c := range cmd.Commands() {
		plainFlags(c)
	}
}

// completeFlag sets how the value of a flag is completed.
func completeFlag(cmd *cobra.Command, name string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(name, f); err != nil {
		panic("cli: " + err.Error()) // there is no such flag
	}
}

// completeByName sets, for cmd and the commands below it, how the values of the other flags are completed, which the value's name in the
// flag's help says: DIR with directories, FILE with files, anything else with nothing.
func completeByName(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if _, set := cmd.GetFlagCompletionFunc(f.Name); set || f.NoOptDefVal != "" {
			return
		}
		switch name, _ := pflag.UnquoteUsage(f); name {
		case "DIR":
			completeFlag(cmd, f.Name, completeDirectories)
		case "FILE": // as cobra does by itself
		default:
			completeFlag(cmd, f.Name, cobra.NoFileCompletions)
		}
	})
	for _, c := range cmd.Commands() {
		completeByName(c)
	}
}

// completeWords offers words.
func completeWords(words ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
}

func completeDirectories(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}
