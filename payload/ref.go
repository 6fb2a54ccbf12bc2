package payload

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Ref is the change of one ref in a repo.content event.
type Ref struct {
	// Ref is the full name: refs/heads/main, refs/tags/v1, refs/pr/5,
	// refs/convert/parquet.
	Ref string `json:"ref" hub:"required"`
	// OldSHA is null when the ref was created.
	OldSHA SHA `json:"oldSha,omitzero"`
	// NewSHA is null when the ref was deleted.
	NewSHA SHA `json:"newSha,omitzero"`
}

// SHA is a commit id that the Hub may send as null or leave out. The zero SHA
// is one that is absent.
type SHA struct {
	Hex  string // the commit id, empty when null or absent
	Null bool   // sent as null
}

// String returns Hex.
func (s SHA) String() string { return s.Hex }

// MarshalJSON returns Hex as a string, or null. In fields with the option
// omitzero an absent SHA stays absent.
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

// Branch returns main for refs/heads/main.
func (r Ref) Branch() (name string, ok bool) { return r.under("refs/heads/") }

// Tag returns v1 for refs/tags/v1.
func (r Ref) Tag() (name string, ok bool) { return r.under("refs/tags/") }

// PullRequest returns 5 for refs/pr/5, the Num of the pull request's Discussion.
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

// IsConvert reports whether the ref is under refs/convert/. The Hub's own bots
// write there, for example the Parquet copy of a dataset after each push to it.
func (r Ref) IsConvert() bool { return strings.HasPrefix(r.Ref, "refs/convert/") }

// TouchesBranch reports whether the event created, moved or deleted the branch,
// named as in "main". It is false for buckets, which have no branches.
func (p *Payload) TouchesBranch(name string) bool {
	for _, r := range p.UpdatedRefs {
		if branch, ok := r.Branch(); ok && branch == name {
			return true
		}
	}
	return false
}

// IsConvert reports whether the event changed nothing but refs/convert/, so that
// a handler can leave the work of the Hub's bots alone: see [Ref.IsConvert].
func (p *Payload) IsConvert() bool {
	for _, r := range p.UpdatedRefs {
		if !r.IsConvert() {
			return false
		}
	}
	return len(p.UpdatedRefs) > 0
}
