package follow

import (
	"maps"
	"slices"

	"github.com/hubhook/hubhook/payload"
)

// refChange is a change of one ref, from one commit to another. "" stands for a ref that is not there.
type refChange struct{ old, new string }

// refsBrought returns the refs as the Hub's deliveries have told them. brought has the deliveries since the last look, newest first, and was has
// what that look saw. A ref that a delivery has brought to its present commit is at that commit; another ref is where the last delivery left it.
// isNew reports whether a commit was made since the last look.
func refsBrought(was caught, now map[string]string, brought []*payload.Payload, isNew func(commit string) bool) map[string]string {
	changes := map[string][]refChange{}
	for _, p := range brought {
		for _, ref := range p.UpdatedRefs {
			changes[ref.Ref] = append(changes[ref.Ref], refChange{ref.OldSHA.Hex, ref.NewSHA.Hex})
		}
	}
	told := maps.Clone(was.Refs)
	if told == nil {
		told = map[string]string{}
	}
	for ref, list := range changes {
		if at := lastTold(was.Refs[ref], now[ref], was.Past[ref], list, isNew); at == "" {
			delete(told, ref)
		} else {
			told[ref] = at
		}
	}
	return told
}

// lastTold returns the commit to which delivered changes have brought a ref. The ref was at was at the last look, at the commits in past at looks
// before, and is at now. changes has the newest delivery first, but deliveries can come in any order. If in doubt, lastTold returns another commit
// than now, so that now is delivered once more.
//
// A ref may return to an earlier commit. So it is not enough that a change leads to a commit: more changes must lead there than away from it.
// Changes that can't be reached from was count as a chain of their own, because a change between may be missing. Of two chains the one counts
// whose delivery came last. A change from a commit in past is a late delivery, unless one of its commits is new. If neither is new, the ref may
// also have gone back and forth between the two. That can't be told from a late delivery, because the Hub keeps no history of a ref.
func lastTold(was, now string, past []string, changes []refChange, isNew func(commit string) bool) string {
	reached, before := reachable(changes, was), reachable(changes, past...)
	on, apart := []refChange{{"\x00", was}}, []refChange{}
	for _, a := range changes {
		switch {
		case reached[a.old]:
			on = append(on, a)
		case !before[a.old] || isNew(a.new) || isNew(a.old):
			apart = append(apart, a)
		}
	}
	for _, a := range changes {
		switch {
		case reached[a.old] && endsAt(a.new, on):
			return a.new
		case slices.Contains(apart, a) && a.new != was && endsAt(a.new, apart):
			return a.new
		}
	}
	for _, a := range slices.Concat(apart, on[1:], []refChange{{"", was}}) {
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

// comesBack reports whether a change brings its ref back to a commit: whether later changes have led from the new commit of the change to its old one.
func comesBack(ref payload.Ref, caught []overtook, brought []*payload.Payload) bool {
	var later []refChange
	for _, o := range caught {
		if o.Ref == ref.Ref {
			later = append(later, refChange{o.Old, o.New})
		}
	}
	for _, p := range brought {
		for _, other := range p.UpdatedRefs {
			if other.Ref == ref.Ref {
				later = append(later, refChange{other.OldSHA.Hex, other.NewSHA.Hex})
			}
		}
	}
	return ref.OldSHA.Hex != ref.NewSHA.Hex && reachable(later, ref.NewSHA.Hex)[ref.OldSHA.Hex]
}

// reachable returns the commits in from, and those to which changes lead from them.
func reachable(changes []refChange, from ...string) map[string]bool {
	reached := map[string]bool{}
	for _, commit := range from {
		reached[commit] = true
	}
	for grew := true; grew; {
		grew = false
		for _, a := range changes {
			if reached[a.old] && !reached[a.new] {
				reached[a.new], grew = true, true
			}
		}
	}
	return reached
}

// endsAt reports whether more changes lead to a commit than away from it. A change that is listed twice may have happened twice, or may have been
// delivered twice. So the answer is true only if both ways of counting agree; otherwise the commit is delivered once more.
func endsAt(commit string, changes []refChange) bool {
	each, once, known := 0, 0, map[refChange]bool{}
	for _, a := range changes {
		by := 0
		if a.new == commit {
			by++
		}
		if a.old == commit {
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
