package ui

import (
	"strconv"
	"sync"
	"time"

	"github.com/hubhook/hubhook/internal/api"
)

// Hundreds of items may be followed, and fail at the same time while the Hub has an outage.
const (
	mostListed  = 10 // items in the banner
	mostFailing = 5  // items whose failure is told at a time
)

// follows says what is followed on the Hub.
func (t *lines) follows(r Ready) {
	if len(r.Followed) == 0 {
		return
	}
	if f := r.Followed[0]; f.State == "off" { // for the same reason all are
		t.add(bad, "Nothing is followed on the Hub: ")
		t.foreign(plain, f.Error, maxURL)
		t.end()
		t.hint(f.Hint)
		return
	}
	t.add(strong, "hubhook follows these on the Hub, without a webhook:")
	t.end()
	for i, f := range r.Followed {
		if i == mostListed && len(r.Followed) > mostListed+1 {
			t.add(plain, "  - and ")
			t.add(plain, strconv.Itoa(len(r.Followed)-mostListed))
			t.add(plain, " more")
			t.end()
			break
		}
		t.add(plain, "  - ")
		t.foreign(strong, f.Item, maxName)
		if f.EverySeconds > 0 {
			t.add(plain, ", a look every ")
			t.add(plain, (time.Duration(f.EverySeconds) * time.Second).String())
		} else {
			t.add(plain, ", by its live feed")
		}
		if f.Endpoint != "" {
			t.add(plain, ", for ")
			t.foreign(plain, f.Endpoint, maxName)
		}
		t.end()
	}
	if r.OnlyFollows {
		t.add(plain, "No tunnel is opened: nothing here needs a public URL. Pass --tunnel NAME to open one.")
		t.end()
	}
}

// Followed prints what becomes of an item that is followed on the Hub. Trouble is a warning, with its hint. Of many items that fail at a
// time, a few are named.
func (s *Screen) Followed(v api.Followed) {
	if s.json && s.out != nil {
		s.putJSON(&api.FollowLine{Line: s.line(api.LineFollow), Followed: v}, notable)
	}
	item := v.Endpoint + "=" + v.Item
	if v.Error != "" {
		tell, first := s.failing.add(item)
		if !tell && !first {
			return
		}
		notice := Notice{Text: "other followed items fail too, and are tried again", Hint: "the inspector's status view and /api/status have them all"}
		if tell {
			what := "follow " + v.Item + ": "
			if v.State == "gone" {
				what += "it was deleted, or can't be seen any more: "
			}
			notice = Notice{Text: what + v.Error + "; it is tried again", Hint: v.Hint}
		}
		s.Warn(notice)
		return
	}
	told, last := s.failing.remove(item)
	works := v.State == "following" && (told || last)
	if s.json || s.out == nil || !works && v.State != "standby" {
		return
	}
	t := newLines(s.outPalette)
	defer t.free()
	if works && last {
		t.add(plain, "Following the other items")
	} else {
		t.add(plain, "Following ")
		t.foreign(strong, v.Item, maxName)
	}
	if works {
		t.add(plain, " works again.")
	} else {
		t.add(plain, " has passed to another process.")
	}
	t.end()
	s.out.put(t.buf, t.count, notable)
}

// failingItems are the followed items that fail, with whether that was told.
type failingItems struct {
	mu    sync.Mutex
	items map[string]bool
}

// add takes up that an item fails. tell reports whether to tell it, and first whether it is the first one that is not told.
func (f *failingItems) add(item string) (tell, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if told, known := f.items[item]; known {
		return told, false
	}
	untold := f.untold()
	tell = len(f.items)-untold < mostFailing
	if f.items == nil {
		f.items = make(map[string]bool)
	}
	f.items[item] = tell
	return tell, !tell && untold == 0
}

// remove takes up that an item does not fail any more. tell reports whether its failure was told, and last whether it is the last one
// that was not told.
func (f *failingItems) remove(item string) (tell, last bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	told, known := f.items[item]
	delete(f.items, item)
	return told, known && !told && f.untold() == 0
}

func (f *failingItems) untold() (n int) {
	for _, told := range f.items {
		if !told {
			n++
		}
	}
	return n
}
