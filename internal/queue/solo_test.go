package queue

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubhook/hubhook/internal/queue/store"
)

func TestSuspectRunsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var ids []string
		again := func() (*fixture, *gate) {
			f, g := open(t, dir, Config{}), newGate()
			if err := f.Start([]Endpoint{{Name: "inbox", Handle: g.handle}, {Name: "other", Handle: g.handle}}); err != nil {
				t.Fatal(err)
			}
			return f, g
		}
		f, _ := again()
		for _, body := range strings.Fields("s1 s2") {
			ids = append(ids, f.accept(Arrival{Body: []byte(body)}).ID)
		}
		synctest.Wait()
		die(f)
		for n := range store.AloneAfter - 1 {
			var g *gate
			f, g = again()
			synctest.Wait()
			if len(g.came) != 2 {
				t.Errorf("after %d interruptions %q run", n+1, g.seen())
			}
			die(f)
		}
		f, g := again()
		synctest.Wait()
		if g.seen() != "s1" {
			t.Errorf("after %d interruptions %q run, want s1 alone", store.AloneAfter, g.seen())
		}
		other := f.accept(Arrival{Endpoint: "other", Body: []byte("o")})
		if other.State != Waiting {
			t.Errorf("one that arrives beside it is %s", other.State)
		}
		time.Sleep(aloneFor + time.Millisecond) // the first one has lived long enough
		synctest.Wait()
		if g.seen() != "s1" {
			// s2 is to be alone too, and s1 still runs: nothing starts
			t.Errorf("after 5 s %q run, want s1", g.seen())
		}
		g.pass <- Outcome{}
		synctest.Wait()
		if g.seen() != "s1 s2" {
			t.Errorf("after the first one's end %q run, want s1 s2", g.seen())
		}
		g.pass <- Outcome{}
		synctest.Wait()
		if g.seen() != "s1 s2 o" {
			t.Errorf("in the end %q run", g.seen())
		}
		close(g.pass)
		eventuallyFinished(t, f)
		if rec := f.get(ids[0]); rec.State != Done || len(rec.AttemptList) != store.AloneAfter+1 {
			t.Errorf("the suspect is %+v", rec)
		}
		f.end()
	})
}
