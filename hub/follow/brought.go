package follow

import (
	"maps"

	"github.com/hubhook/hubhook/payload"
)

// arrow is a change of one ref that the Hub has delivered: "" is a ref that is not there.
type arrow struct{ old, new string }

// refsBrought returns the refs as the Hub's deliveries have told them, newest delivery first: as they are now wherever a delivery has brought
// that, and otherwise as the last one left them. was is what was seen before those deliveries.
func refsBrought(was, now map[string]string, brought []*payload.Payload) map[string]string {
	arrows := map[string][]arrow{}
	for _, p := range brought {
		for _, ref := range p.UpdatedRefs {
			arrows[ref.Ref] = append(arrows[ref.Ref], arrow{ref.OldSHA.Hex, ref.NewSHA.Hex})
		}
	}
	told := maps.Clone(was)
	if told == nil {
		told = map[string]string{}
	}
	for ref, list := range arrows {
		if at := lastTold(was[ref], now[ref], list); at == "" {
			delete(told, ref)
		} else {
			told[ref] = at
		}
	}
	return told
}

// lastTold returns where changes have brought a ref that was at was, whatever order they came in: to now, or else to another point.
//
// A ref may come back to where it was. So it is not enough that some change led to now: one more must lead there than away from it. Changes that
// can't be reached from was count by themselves: one between may be missing, or they are older.
func lastTold(was, now string, arrows []arrow) string {
	reached := map[string]bool{was: true}
	for grew := true; grew; {
		grew = false
		for _, a := range arrows {
			if reached[a.old] && !reached[a.new] {
				reached[a.new], grew = true, true
			}
		}
	}
	var on, apart []arrow
	for _, a := range arrows {
		if reached[a.old] {
			on = append(on, a)
		} else {
			apart = append(apart, a)
		}
	}
	if endsAt(now, append([]arrow{{"\x00", was}}, on...)) || now != was && endsAt(now, apart) {
		return now
	}
	for _, a := range on {
		if a.new != now {
			return a.new
		}
	}
	for _, a := range append([]arrow{{was, ""}}, arrows...) {
		if a.old != now {
			return a.old
		}
	}
	return was
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
