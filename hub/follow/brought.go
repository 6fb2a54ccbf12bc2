package follow

import (
	"maps"
	"slices"

	"github.com/hubhook/hubhook/payload"
)

// arrow is a change of one ref that the Hub has delivered: "" is a ref that is not there.
type arrow struct{ old, new string }

// refsBrought returns the refs as the Hub's deliveries have told them, newest delivery first: as they are now wherever a delivery has brought
// that, and otherwise as the last one left them. was is what was seen before those deliveries, and isNew reports whether a commit was made since then.
func refsBrought(was caught, now map[string]string, brought []*payload.Payload, isNew func(commit string) bool) map[string]string {
	arrows := map[string][]arrow{}
	for _, p := range brought {
		for _, ref := range p.UpdatedRefs {
			arrows[ref.Ref] = append(arrows[ref.Ref], arrow{ref.OldSHA.Hex, ref.NewSHA.Hex})
		}
	}
	told := maps.Clone(was.Refs)
	if told == nil {
		told = map[string]string{}
	}
	for ref, list := range arrows {
		if at := lastTold(was.Refs[ref], now[ref], was.Past[ref], list, isNew); at == "" {
			delete(told, ref)
		} else {
			told[ref] = at
		}
	}
	return told
}

// lastTold returns where changes, newest first, have brought a ref that was at was, whatever order they came in. If in doubt, it is not now, so
// that now is delivered.
//
// A ref may come back to where it was. So it is not enough that some change leads to a point: one more must lead there than away from it. Changes
// that can't be reached from was make a chain of their own, since one between may be missing; of two chains the one that came last counts. Those
// that lead on from where the ref was before was are late, unless one of their commits is new. Between two commits that are not new, a change back and
// forth can't be told from a late delivery: the Hub keeps no history of a ref.
func lastTold(was, now string, past []string, arrows []arrow, isNew func(commit string) bool) string {
	reached, before := reachable(arrows, was), reachable(arrows, past...)
	on, apart := []arrow{{"\x00", was}}, []arrow{}
	for _, a := range arrows {
		switch {
		case reached[a.old]:
			on = append(on, a)
		case !before[a.old] || isNew(a.new) || isNew(a.old):
			apart = append(apart, a)
		}
	}
	for _, a := range arrows {
		switch {
		case reached[a.old] && endsAt(a.new, on):
			return a.new
		case slices.Contains(apart, a) && a.new != was && endsAt(a.new, apart):
			return a.new
		}
	}
	for _, a := range slices.Concat(apart, on[1:], []arrow{{"", was}}) {
		if a.new != now {
			return a.new
		}
	}
	for _, a := range on[1:] {
		if a.old != now {
			return a.old
		}
	}
	return was
}

// comesBack reports whether a change leads back to a commit from where later changes have brought the ref.
func comesBack(ref payload.Ref, caught []overtook, brought []*payload.Payload) bool {
	var later []arrow
	for _, o := range caught {
		if o.Ref == ref.Ref {
			later = append(later, arrow{o.Old, o.New})
		}
	}
	for _, p := range brought {
		for _, other := range p.UpdatedRefs {
			if other.Ref == ref.Ref {
				later = append(later, arrow{other.OldSHA.Hex, other.NewSHA.Hex})
			}
		}
	}
	return ref.OldSHA.Hex != ref.NewSHA.Hex && reachable(later, ref.NewSHA.Hex)[ref.OldSHA.Hex]
}

// reachable returns the points that changes lead to from others, and those.
func reachable(arrows []arrow, from ...string) map[string]bool {
	reached := map[string]bool{}
	for _, point := range from {
		reached[point] = true
	}
	for grew := true; grew; {
		grew = false
		for _, a := range arrows {
			if reached[a.old] && !reached[a.new] {
				reached[a.new], grew = true, true
			}
		}
	}
	return reached
}

// endsAt reports whether more changes lead to a point than away from it, both if the same change twice is two, and if it is one that was told
// twice. If in doubt, it is delivered once more.
func endsAt(point string, arrows []arrow) bool {
	each, once, known := 0, 0, map[arrow]bool{}
	for _, a := range arrows {
		by := 0
		if a.new == point {
			by++
		}
		if a.old == point {
			by--
		}
		each += by
		if !known[a] {
			once += by
		}
		known[a] = true
	}
	return each > 0 && once > 0
}
