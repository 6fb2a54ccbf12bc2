package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hubhook/hubhook/internal/cli"
	"github.com/hubhook/hubhook/internal/env"
)

// pagesOf tells in which page of docs/ the commands of a group stand that have one of their own. The others stand in command-line.md.
var pagesOf = map[string]string{
	"serve": "reference/serve.md", "dev": "reference/serve.md", "test": "reference/serve.md", "run-job": "reference/serve.md",
	"trigger": "reference/deliveries.md", "deliveries": "reference/deliveries.md",
	"hub": "reference/hub.md",
}

// commandTable lists all commands that do something, in the order of the help.
func commandTable() []string {
	var rows [][]string
	var add func(*cobra.Command)
	add = func(cmd *cobra.Command) {
		if !cmd.IsAvailableCommand() || cmd.Name() == "help" {
			return
		}
		if cmd.HasAvailableSubCommands() {
			for _, c := range cmd.Commands() {
				add(c)
			}
			return
		}
		name := cmd.CommandPath()
		group, _, _ := strings.Cut(strings.TrimPrefix(name, "hubhook "), " ")
		rows = append(rows, []string{fmt.Sprintf("[`%s`](%s#%s)", name, pagesOf[group], strings.ReplaceAll(name, " ", "-")), cmd.Short})
	}
	root := cli.Commands()
	for _, group := range root.Groups() {
		for _, c := range root.Commands() {
			if c.GroupID == group.ID {
				add(c)
			}
		}
	}
	return table([]string{"command", "does"}, rows)
}

// flagTable lists the flags of a command, but for those that another command has too.
func flagTable(command, without string) ([]string, error) {
	cmd, err := find(command)
	if err != nil {
		return nil, err
	}
	known := pflag.NewFlagSet("", pflag.ContinueOnError)
	if without != "" {
		other, err := find(without)
		if err != nil {
			return nil, err
		}
		known = other.LocalFlags()
	}
	var rows [][]string
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || known.Lookup(f.Name) != nil {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		if f.NoOptDefVal == "true" { // it needs no value
			value = ""
		}
		if initial := f.DefValue; initial != "" && initial != "0" && initial != "false" && initial != "[]" && !strings.Contains(usage, "(default ") {
			usage += " (default " + initial + ")"
		}
		rows = append(rows, []string{"`" + strings.TrimSpace("--"+f.Name+" "+value) + "`", "`" + env.Variable(f.Name) + "`", usage})
	})
	if rows == nil {
		return nil, fmt.Errorf("%s has no flags to list", command)
	}
	return table([]string{"flag", "variable", "means"}, rows), nil
}

// find returns the command of that full name.
func find(name string) (*cobra.Command, error) {
	cmd, rest, err := cli.Commands().Find(strings.Fields(strings.TrimPrefix(name, "hubhook")))
	if err != nil || len(rest) > 0 || cmd.CommandPath() != name {
		return nil, fmt.Errorf("there is no command %q", name)
	}
	return cmd, nil
}
