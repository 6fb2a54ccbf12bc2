package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hubhook/hubhook/internal/action"
	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
)

// testFlags are those of test.
type testFlags struct {
	only, url, events, junit, secret string
	endpoints, paths                 []string
	noSpaceEnv, json                 bool
}

func newTest(p *program) *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use:     "test [flags] -- COMMAND...",
		GroupID: groupReceive,
		Short:   "does your program survive what the Hub really sends?",
		Long: `Start your program as hubhook dev does, and send it over loopback all that the
Hub may send: every sample event, unknown scopes, actions, repo types and
fields, a bucket with 10,000 files, null and absent fields, a hidden comment,
the same delivery twice, two pushes in the wrong order, a wrong secret and none.
Nothing is stored, and no tunnel is opened.

A case passes with 2xx within 10 s, and with 401 or 403 if the secret is wrong.
Each failure comes with its cause and a fix, and makes the exit status 1.`,
		Example: `  hubhook test -- python app.py
  hubhook test --only 'bucket*' --junit report.xml -- npm start
  WEBHOOK_SECRET=... hubhook test --url http://127.0.0.1:3000 --path /hook`,
		ValidArgsFunction: completeCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.url == "" {
				if err := commandAfterDash(cmd, args, "hubhook test -- python app.py"); err != nil {
					return err
				}
			} else if len(args) > 0 {
				return wrongUsageHint(cmd, "leave out the command, or --url", "--url tests a program that runs already, so there is no command to run")
			}
			if err := p.test(cmd.Context(), f, args); err != nil {
				return fmt.Errorf("test: %w", err)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.only, "only", "", "send only cases whose names match this `PATTERN`, as 'bucket*'")
	flags.StringArrayVar(&f.endpoints, "endpoint", nil, "test only the endpoint of this `NAME`; repeat it for several (default all that the program has)")
	flags.StringArrayVar(&f.paths, "path", nil, "`PATH` of the program that takes deliveries, as /hook; repeat it for several (default what the program says)")
	flags.StringVar(&f.url, "url", "", "`URL` of a program that runs already, in place of a command")
	flags.StringVar(&f.secret, "secret", "", "webhook `SECRET` of the program, also WEBHOOK_SECRET (default one made for the test, in the program's environment)")
	flags.StringVar(&f.events, "events", "", "send each .json file of this `DIR` too, as payloads of your own")
	flags.BoolVar(&f.noSpaceEnv, "no-space-env", false, "leave SPACE_ID and SPACE_HOST alone, which keep a WebhooksServer from opening a share link")
	flags.BoolVar(&f.json, "json", false, "print one JSON object for each case instead of a table")
	flags.StringVar(&f.junit, "junit", "", "write the results as JUnit XML to this `FILE`, too")
	return cmd
}

// test tests a program. Cases that fail are an error.
func (p *program) test(ctx context.Context, f testFlags, command []string) error {
	cfg, err := p.probeConfig(f, command)
	if err != nil {
		return err
	}
	table := action.NewProbeTable(p.out)
	cfg.Result = func(r action.ProbeResult) {
		if f.json {
			err = errors.Join(err, action.WriteProbeJSON(p.out, r))
		} else {
			err = errors.Join(err, table.Row(r))
		}
	}
	report, probing := action.Probe(ctx, cfg)
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case probing != nil:
		return probing
	case err != nil:
		return fmt.Errorf("write the results: %w", err)
	}
	if f.json {
		err = action.WriteProbeJSONSum(p.out, report)
	} else {
		err = table.End(report)
	}
	if err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	if f.junit != "" {
		if err := writeJUnit(f.junit, report); err != nil {
			return err
		}
	}
	if n := report.Failed(); n > 0 {
		return fmt.Errorf("%s failed", countOf(n, "case", "cases"))
	}
	return nil
}

// probeConfig is what the flags of test say.
func (p *program) probeConfig(f testFlags, command []string) (cfg action.ProbeConfig, err error) {
	routes, err := routesOf(f.paths)
	if err != nil {
		return cfg, err
	}
	if cfg.Cases, err = action.ProbeCases(); err != nil {
		return cfg, err
	}
	if f.events != "" {
		own, err := action.EventCases(f.events)
		if err != nil {
			return cfg, text.WithHint(err, "name a directory whose .json files are payloads; hubhook trigger repo.content --print prints one")
		}
		cfg.Cases = append(cfg.Cases, own...)
	}
	if f.only != "" {
		if cfg.Cases, err = action.SelectCases(cfg.Cases, f.only); err != nil {
			return cfg, &usageError{err}
		}
	}
	if cfg.Endpoints, err = endpointNames(f.endpoints); err != nil {
		return cfg, err
	}
	cfg.Program = action.SupervisorConfig{Args: command, NoSpaceEnv: f.noSpaceEnv, Routes: routes}
	secret := f.secret
	for _, name := range []string{env.Variable("secret"), env.WebhookSecret} {
		if secret == "" {
			secret, _ = p.LookupEnv(name)
		}
	}
	cfg.Secret, _, _ = strings.Cut(secret, ",")
	if f.url == "" {
		return cfg, nil
	}
	u, err := url.Parse(f.url)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return cfg, &usageError{text.WithHint(fmt.Errorf("--url %s: it is not a URL without a path", f.url), "write it as http://127.0.0.1:3000, and its path with --path")}
	}
	cfg.URL = u.Scheme + "://" + u.Host
	return cfg, nil
}

func writeJUnit(path string, report *action.ProbeReport) error {
	var b bytes.Buffer
	if err := action.WriteJUnit(&b, report); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		return text.WithHint(fmt.Errorf("write the results as JUnit XML: %w", err), "name a file in a directory that is there: --junit report.xml")
	}
	return nil
}
