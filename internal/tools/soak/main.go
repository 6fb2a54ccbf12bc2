//go:build unix

// Command soak drives hubhook for any time with the faults of production: kill -9, restarts, a full disk, bursts, repeats, bad input,
// handlers that fail, panic, hang or kill the process, replays and discards. It compares the outcome with a model: every event that was
// answered 2xx is stored and handled, and none is handled more often than kills explain.
//
// `make soak` runs it. It ends with status 1 if something violates the model.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// workerArgument makes this program a process under test: a user's program whose handlers obey the payload.
const workerArgument = "worker"

// These variables count if their flags are not given.
const (
	seedVariable     = "HUBHOOK_SOAK_SEED"
	databaseVariable = "HUBHOOK_SOAK_DATABASE"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == workerArgument {
		os.Args = append(os.Args[:1], os.Args[2:]...)
		work()
		return
	}
	cfg := config{out: os.Stdout}
	flag.DurationVar(&cfg.lasts, "for", 2*time.Minute, "how long to drive hubhook; the last round then ends and is compared, which takes some seconds more")
	flag.DurationVar(&cfg.round, "round", 20*time.Second, "how long one round drives hubhook, before it comes to rest and is compared with the model")
	flag.Uint64Var(&cfg.seed, "seed", 0, "repeats the random choices of an earlier run, but not their timing ($HUBHOOK_SOAK_SEED; default: a new one)")
	flag.StringVar(&cfg.database, "database", "", "the `URL` of a PostgreSQL database that the processes share ($HUBHOOK_SOAK_DATABASE; default: SQLite, and one process)")
	flag.BoolVar(&cfg.postgres, "postgres", false, "share a database on a PostgreSQL server of this run, which has faults too")
	flag.IntVar(&cfg.processes, "processes", 0, "how many hubhook processes (default 1 with SQLite, 3 with PostgreSQL)")
	flag.IntVar(&cfg.senders, "senders", 16, "how many senders at once")
	flag.StringVar(&cfg.dir, "dir", "", "where to keep data and notes, for a look at them afterwards (default: a directory that is removed)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "soak: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := cfg.complete(os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := soakAll(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// complete fills in the defaults of flags that were not given.
func (c *config) complete(getenv func(string) string) error {
	if c.seed == 0 {
		c.seed = uint64(time.Now().UnixNano())
		if text := getenv(seedVariable); text != "" {
			var err error
			if c.seed, err = strconv.ParseUint(text, 10, 64); err != nil {
				return fmt.Errorf("%s: %w", seedVariable, err)
			}
		}
	}
	if c.database == "" && !c.postgres {
		c.database = getenv(databaseVariable)
	}
	switch {
	case c.postgres && c.database != "":
		return errors.New("give either -postgres or -database")
	case c.processes == 0 && !c.sharing():
		c.processes = 1
	case c.processes == 0:
		c.processes = 3
	case c.processes > 1 && !c.sharing():
		return errors.New("several processes need a database that they share: give -postgres, or -database with a postgres:// URL")
	}
	if c.lasts <= 0 || c.round <= 0 || c.processes < 0 || c.senders <= 0 {
		return errors.New("-for, -round, -processes and -senders have to be positive")
	}
	return nil
}

// sharing reports whether processes share a database.
func (c *config) sharing() bool { return c.postgres || c.database != "" }
