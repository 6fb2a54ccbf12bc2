package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/queue"
)

// damagedDatabase leaves a database in a new directory from which the bodies of n deliveries can't be read, and returns their IDs.
func damagedDatabase(t *testing.T, n int) (dir string, ids []string) {
	t.Helper()
	dir = t.TempDir()
	q, err := queue.Open(t.Context(), queue.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Start([]queue.Endpoint{{Name: "inbox"}}); err != nil {
		t.Fatal(err)
	}
	const body = "a body that is lost"
	for range n {
		r, err := q.Accept(t.Context(), queue.Arrival{Endpoint: "inbox", Body: []byte(body)})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "hubhook.db")
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	smashed := 0
	for page := 0; page < len(file); page += 4096 {
		if p := file[page : page+4096]; bytes.Contains(p, []byte(body)) {
			clear(p)
			smashed++
		}
	}
	if smashed == 0 {
		t.Fatal("no page holds a body")
	}
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, ids
}

// A long list of losses is for a file, and the screen has its beginning.
func TestRecoverNamesTheFirstLosses(t *testing.T) {
	for _, n := range []int{shownLost, shownLost + 40} {
		dir, ids := damagedDatabase(t, n)
		var out, errs strings.Builder
		status := Main(context.Background(), Process{
			Args: []string{"deliveries", "recover", "--data", dir}, Stdout: &out, Stderr: &errs,
			LookupEnv: func(string) (string, bool) { return "", false },
		})
		if status != 0 || errs.Len() > 0 {
			t.Fatalf("status %d, %s", status, &errs)
		}
		_, said, _ := strings.Cut(out.String(), "seen).\n")
		all := fmt.Sprintf("Lost headers and body: %d deliveries\n  %s\n", n, strings.Join(ids, "\n  "))
		lists, err := filepath.Glob(filepath.Join(dir, "hubhook.db.damaged-*.lost"))
		if err != nil {
			t.Fatal(err)
		}
		if n == shownLost {
			if said != all || len(lists) != 0 {
				t.Errorf("%d are said as\n%s\nand in the files %v", n, said, lists)
			}
			continue
		}
		if len(lists) != 1 {
			t.Fatalf("%d are listed in the files %v, want one", n, lists)
		}
		if list, err := os.ReadFile(lists[0]); err != nil || string(list) != all {
			t.Errorf("the file lists %q, %v", list, err)
		}
		want := fmt.Sprintf("Lost headers and body: %d deliveries\n  %s\n  and 40 more; all are in %s\n", n, strings.Join(ids[:shownLost], "\n  "), lists[0])
		if said != want {
			t.Errorf("said is\n%s\nwant\n%s", said, want)
		}
	}
}
