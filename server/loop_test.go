package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
)

// story feeds deliveries to loops, at times that it makes up.
type story struct {
	t     *testing.T
	loops loops
	now   time.Time
	count int // deliveries so far
	told  int // notices so far
}

func newStory(t *testing.T) *story { return &story{t: t, now: time.Unix(1_800_000_000, 0)} }

func (s *story) delivery() *queue.Delivery {
	s.count++
	return &queue.Delivery{
		ID: fmt.Sprint("id-", s.count), WebhookID: fmt.Sprint("webhook-", s.count), Endpoint: "train",
		Scope: "repo.content", RepoType: "dataset", RepoName: "me/data", Received: s.now,
	}
}

// arrives has d come, and its handler end after a second.
func (s *story) arrives(d *queue.Delivery) {
	s.comes(d)
	s.now = s.now.Add(time.Second)
	s.loops.handled(d, s.now)
}

func (s *story) comes(d *queue.Delivery) {
	d.Received = s.now
	if s.loops.arrived(d) != nil {
		s.told++
	}
}

func (s *story) wait(d time.Duration) { s.now = s.now.Add(d) }

// round has n deliveries come, each so long after the handler of the one before.
func (s *story) round(n int, after time.Duration, change ...func(*queue.Delivery)) {
	for range n {
		s.wait(after)
		d := s.delivery()
		for _, c := range change {
			c(d)
		}
		s.arrives(d)
	}
}

func (s *story) want(told, shown int) {
	s.t.Helper()
	if now := s.loops.current(s.now); s.told != told || len(now) != shown {
		s.t.Errorf("%d notices and %d loops shown; want %d and %d: %+v", s.told, len(now), told, shown, now)
	}
}

func TestALoopIsToldOnce(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.round(5, 30*time.Second) // the first follows nothing
	s.want(0, 0)
	s.round(1, 30*time.Second)
	s.want(1, 1)
	s.round(100, 20*time.Second)
	s.want(1, 1)
	loop := s.loops.current(s.now)[0]
	if loop.Deliveries != 105 || loop.Endpoint != "train" || loop.Repo.Name != "me/data" || loop.Scope != "repo.content" ||
		!strings.Contains(loop.Text, "does the handler change what it watches?") || loop.Hint == "" {
		t.Errorf("it is shown as %+v", loop)
	}

	s.wait(59 * time.Minute)
	s.want(1, 1)
	s.wait(2 * time.Minute)
	s.want(1, 0)
	s.round(6, time.Second)
	s.want(2, 1)
	s.wait(time.Minute)
	s.round(6, time.Second) // another row soon after a notice
	s.want(2, 1)
}

// Deliveries that hubhook makes from what it reads on the Hub are events as good as the Hub's own.
func TestALoopWithoutAWebhook(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.round(6, time.Second, func(d *queue.Delivery) { d.Synthetic, d.WebhookID = true, fmt.Sprint("follow-", s.count) })
	s.want(1, 1)
}

func TestWhatIsNoLoop(t *testing.T) {
	t.Parallel()
	for name, tell := range map[string]func(*story){
		"too slow":  func(s *story) { s.round(20, 31*time.Second) },
		"a pause":   func(s *story) { s.round(5, time.Second); s.wait(31 * time.Second); s.round(5, time.Second) },
		"no repo":   func(s *story) { s.round(20, time.Second, func(d *queue.Delivery) { d.RepoType, d.RepoName = "", "" }) },
		"sample":    func(s *story) { s.round(20, time.Second, func(d *queue.Delivery) { d.Synthetic = true }) },
		"replays":   func(s *story) { s.round(20, time.Second, func(d *queue.Delivery) { d.ReplayOf = "id-0" }) },
		"the Hub's": func(s *story) { s.round(20, time.Second, func(d *queue.Delivery) { d.WebhookID = "the one" }) },
		"two of the Hub's": func(s *story) {
			s.round(20, time.Second, func(d *queue.Delivery) { d.WebhookID = fmt.Sprint("webhook ", s.count%2) })
		},
		"other repos": func(s *story) {
			s.round(20, time.Second, func(d *queue.Delivery) { d.RepoName = fmt.Sprint("me/", s.count%5) })
			s.wait(time.Minute)
		},
		"other scopes": func(s *story) {
			s.round(4, time.Second)
			s.round(4, time.Second, func(d *queue.Delivery) { d.Scope = "repo.config" })
		},
		"a burst": func(s *story) {
			s.round(1, time.Second)
			for range 20 {
				s.comes(s.delivery())
			}
		},
		"while it runs": func(s *story) {
			for range 20 {
				s.comes(s.delivery())
			}
			s.loops.handled(s.delivery(), s.now)
		},
		"skipped": func(s *story) {
			for range 20 {
				s.round(1, time.Second)
				d := s.delivery()
				s.comes(d)
				s.loops.declined(d)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t)
			tell(s)
			s.want(0, 0)
		})
	}
}

// What a person does meanwhile hides no loop.
func TestALoopBesideOtherDeliveries(t *testing.T) {
	t.Parallel()
	for name, beside := range map[string]func(*story){
		"replays": func(s *story) { s.round(1, 0, func(d *queue.Delivery) { d.ReplayOf = "id-1" }) },
		"other repos": func(s *story) {
			s.round(1, 0, func(d *queue.Delivery) { d.RepoName = "me/other" + fmt.Sprint(s.count) })
		},
		"other endpoint":    func(s *story) { d := s.delivery(); d.Endpoint = "picky"; s.comes(d); s.loops.declined(d) },
		"several at a time": func(s *story) { s.comes(s.delivery()); s.comes(s.delivery()) },
		"later attempts": func(s *story) {
			d := s.delivery()
			s.comes(d)
			s.loops.handled(d, s.now)
			s.loops.handled(d, s.now)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t)
			for range 12 {
				s.round(1, 10*time.Second)
				beside(s)
			}
			if s.told != 1 {
				t.Errorf("%d notices; want 1", s.told)
			}
		})
	}
}

func TestLoopsForgetTheOldest(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.round(6, time.Second)
	s.round(3*mostRows, 0, func(d *queue.Delivery) { d.RepoName = fmt.Sprint("me/data", s.count) })
	if len(s.loops.rows) != mostRows || s.loops.newest.Len() != mostRows {
		t.Errorf("%d and %d rows are remembered; want %d", len(s.loops.rows), s.loops.newest.Len(), mostRows)
	}
	s.want(1, 0)
	for _, e := range s.loops.rows {
		if n := len(e.Value.(*row).seen); n > mostSeen {
			t.Fatalf("a row remembers %d deliveries; want %d at most", n, mostSeen)
		}
	}
}
