package payload

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Ref is the change of one ref in a repo.content event.
type Ref struct {
	// Ref is the full name, such as refs/heads/main, refs/tags/v1, refs/pr/5
	// or refs/convert/parquet.
	Ref string `json:"ref" hub:"required"`
	// OldSHA is null when the ref was created.
	OldSHA SHA `json:"oldSha,omitzero"`
	// NewSHA is null when the ref was deleted.
	NewSHA SHA `json:"newSha,omitzero"`
}

// SHA is a commit id, which the Hub may send as null or leave out. The zero SHA
// stands for one that was left out.
type SHA struct {
	Hex  string // empty when the id was null or left out
	Null bool   // the id was sent as null
}

// String returns Hex.
func (s SHA) String() string { return s.Hex }

// MarshalJSON returns Hex as a string, or null where Hex is empty. Use it in fields
// with the option omitzero, which leaves the zero SHA out.
func (s SHA) MarshalJSON() ([]byte, error) {
	if s.Hex == "" {
		return []byte("null"), nil
	}
	return json.Marshal(s.Hex)
}

// UnmarshalJSON reads a string or null.
func (s *SHA) UnmarshalJSON(b []byte) error {
	*s = SHA{Null: string(b) == "null"}
	return json.Unmarshal(b, &s.Hex)
}

// Branch returns the name of a branch: main for refs/heads/main. ok is false for
// another kind of ref.
func (r Ref) Branch() (name string, ok bool) { return r.under("refs/heads/") }

// Tag returns the name of a tag: v1 for refs/tags/v1. ok is false for another kind
// of ref.
func (r Ref) Tag() (name string, ok bool) { return r.under("refs/tags/") }

// PullRequest returns the number of a pull request: 5 for refs/pr/5. Its Discussion
// has the same Num. ok is false for another kind of ref.
func (r Ref) PullRequest() (num int64, ok bool) {
	digits, ok := r.under("refs/pr/")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	return int64(n), err == nil
}

func (r Ref) under(prefix string) (name string, ok bool) {
	name, ok = strings.CutPrefix(r.Ref, prefix)
	if !ok || name == "" {
		return "", false
	}
	return name, true
}

// Created reports whether the event made the ref.
func (r Ref) Created() bool { return r.OldSHA.Null && !r.NewSHA.Null }

// Deleted reports whether the event removed the ref.
func (r Ref) Deleted() bool { return r.NewSHA.Null && !r.OldSHA.Null }

// IsConvert reports whether the ref is under refs/convert/. The Hub's own bots push
// there: the Parquet copy of a dataset, for example, after each push to the dataset.
func (r Ref) IsConvert() bool { return strings.HasPrefix(r.Ref, "refs/convert/") }

// TouchesBranch reports whether the event created, moved or deleted a branch, given
// by a name such as "main". It is false for buckets, which have no branches.
func (p *Payload) TouchesBranch(name string) bool {
	for _, r := range p.UpdatedRefs {
		if branch, ok := r.Branch(); ok && branch == name {
			return true
		}
	}
	return false
}

// IsConvert reports whether all updated refs are under refs/convert/. A handler can
// then ignore the event as the work of the Hub's bots: see [Ref.IsConvert].
func (p *Payload) IsConvert() bool {
	for _, r := range p.UpdatedRefs {
		if !r.IsConvert() {
			return false
		}
	}
	return len(p.UpdatedRefs) > 0
}
