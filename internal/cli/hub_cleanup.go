package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/hub/keep"
	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/text"
	"github.com/hubhook/hubhook/server"
)

func newHubCleanup(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cleanup [flags]",
		Short: "delete the webhooks of --watch, give back those of --webhook",
		Long: `Delete the webhooks that hubhook has made on the Hub for --watch, and give back
the URL and the state of those that it has borrowed for --webhook. The record in
the data directory names them, so the command also finishes what a crash has
interrupted. Other webhooks are never touched. hubhook has to be stopped.

Without --data the records of all data directories of this working directory
count; with --database the record that is in the database.
A borrowed webhook with a secret that the Hub hides needs the secret here.`,
		Example: `  hubhook hub cleanup
  hubhook hub cleanup --data /var/lib/hubhook`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object a line")
	data := addData(cmd)
	database := cmd.Flags().String("database", "", "`URL` of the PostgreSQL database that the processes of hubhook share; HUBHOOK_DATABASE is better")
	secrets := cmd.Flags().StringArray("secret", nil, "webhook `SECRET` of a borrowed webhook (WEBHOOK_SECRET too)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := p.cleanHub(cmd, *data, *database, *secrets, *asJSON); err != nil {
			return fmt.Errorf("hub cleanup: %w", explainLocal(err))
		}
		return nil
	}
	return cmd
}

// cleanHub cleans up after the hubhook of each data directory that has a record.
func (p *program) cleanHub(cmd *cobra.Command, data, database string, secrets []string, asJSON bool) error {
	client, err := p.hub()
	if err != nil {
		return err
	}
	if database = cmp.Or(database, p.databaseOfFile()); database != "" {
		config := server.Config{Database: database, Secrets: p.webhookSecrets(secrets), Getenv: func(string) (string, bool) { return "", false }}
		cleaned, err := server.CleanDatabase(cmd.Context(), config, client)
		if err != nil {
			return err
		}
		if len(cleaned) == 0 {
			p.note("There is nothing to clean up: no webhook of the Hub was made or borrowed by the processes that share the database.")
		}
		failed, err := p.printCleaned(cleaned, asJSON)
		return cmp.Or(err, leftOver(failed))
	}
	dirs, err := p.recordDirectories(data)
	if err != nil {
		return err
	}
	if len(dirs) == 0 {
		p.note("There is nothing to clean up: no webhook of the Hub was made or borrowed here.")
		return nil
	}
	c := keep.On(client)
	c.Secrets, c.Another = p.webhookSecrets(secrets), server.KeptElsewhere(nil)
	failed := 0
	for _, dir := range dirs {
		n, err := p.cleanDirectory(cmd, dir, c, asJSON)
		if err != nil {
			return err
		}
		failed += n
	}
	return leftOver(failed)
}

// leftOver returns the error for a number of webhooks that could not be cleaned up, nil for none.
func leftOver(failed int) error {
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("%s could not be cleaned up", countOf(failed, "webhook", "webhooks"))
}

// databaseOfFile returns the database that the configuration file here names, "" for none.
func (p *program) databaseOfFile() string {
	file, err := p.fileHere()
	if err != nil {
		return ""
	}
	if database, _ := file.Setting("database"); len(database) > 0 {
		return database[0]
	}
	return ""
}

// cleanDirectory cleans up by the record of one data directory, and returns how many webhooks are left.
func (p *program) cleanDirectory(cmd *cobra.Command, dir string, c keep.Config, asJSON bool) (failed int, err error) {
	unlock, err := queue.LockDirectory(dir)
	if err != nil {
		return 0, err
	}
	defer unlock()
	c.Records = keep.InDirectory(dir)
	cleaned, err := keep.Cleanup(cmd.Context(), c)
	if err != nil {
		return 0, err
	}
	return p.printCleaned(cleaned, asJSON)
}

// printCleaned says what was done about webhooks, and returns how many are left.
func (p *program) printCleaned(cleaned []keep.Cleaned, asJSON bool) (failed int, err error) {
	for _, one := range cleaned {
		if one.Err != nil {
			failed++
		}
		if asJSON {
			if err := p.printJSON(cleanedView(one)); err != nil {
				return failed, err
			}
			continue
		}
		if one.Err != nil {
			printProblem(p, one)
			continue
		}
		fmt.Fprintf(p.out, "%s  %s  %s\n", cmp.Or(one.ID, "-"), text.Printable(one.Endpoint, 0), text.Printable(one.Done, 0))
	}
	return failed, nil
}

// cleanedJSON is a line of hub cleanup --json.
type cleanedJSON struct {
	ID       string `json:"id"`
	Endpoint string `json:"endpoint"`
	Borrowed bool   `json:"borrowed"`
	Done     string `json:"done"`
	Error    string `json:"error"`
	Hint     string `json:"hint"`
}

func cleanedView(c keep.Cleaned) cleanedJSON {
	view := cleanedJSON{ID: c.ID, Endpoint: c.Endpoint, Borrowed: c.Borrowed, Done: c.Done}
	if c.Err != nil {
		view.Error, view.Hint = c.Err.Error(), text.Hint(c.Err)
	}
	return view
}

// printProblem prints why a webhook could not be cleaned up.
func printProblem(p *program, c keep.Cleaned) {
	err := fmt.Errorf("webhook %s of %s: %w", cmp.Or(c.ID, "without a known ID"), c.Endpoint, c.Err)
	server.PrintError(p.Stderr, text.WithHint(err, text.Hint(c.Err)))
}

// recordDirectories returns the data directories that have a record of webhooks: dir, or those of this working directory.
func (p *program) recordDirectories(dir string) ([]string, error) {
	if dir = cmp.Or(dir, p.dataOfFile()); dir != "" {
		_, err := os.Stat(filepath.Join(dir, keep.RecordFile))
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		return []string{dir}, err
	}
	workspace, err := p.workspace()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(workspace, "*", keep.RecordFile))
	for i, file := range files {
		files[i] = filepath.Dir(file)
	}
	return files, err
}

// webhookSecrets returns the secrets of the flag, of the variables, or of the configuration file here.
func (p *program) webhookSecrets(given []string) []string {
	if len(given) > 0 {
		return given
	}
	for _, name := range []string{env.Variable("secret"), env.WebhookSecret} {
		if value, _ := p.LookupEnv(name); value != "" {
			secrets := strings.Split(value, ",")
			for i := range secrets {
				secrets[i] = strings.TrimSpace(secrets[i])
			}
			return secrets
		}
	}
	file, err := p.fileHere()
	if err != nil {
		return nil // the command can work without the file, so its error is left to other commands
	}
	secrets, _ := file.Setting("secret")
	return secrets
}
