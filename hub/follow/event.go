package follow

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/hubhook/hubhook/hub"
	"github.com/hubhook/hubhook/payload"
)

// maxFiles is how many files an event of a bucket lists at most, as the Hub's documentation says of its own.
const maxFiles = 10_000

// event is a payload of version 3, with the fields that can be read on the Hub, in the order of the Hub's documentation. It shares nothing with the
// payloads of package hubtest, so that a test can compare the two.
type event struct {
	Event struct {
		Action payload.Action `json:"action"`
		Scope  payload.Scope  `json:"scope"`
	} `json:"event"`
	Repo          repo            `json:"repo"`
	UpdatedRefs   []updatedRef    `json:"updatedRefs,omitempty"`
	UpdatedFiles  *[]updatedFile  `json:"updatedFiles,omitempty"`
	Truncated     bool            `json:"updatedFilesTruncated,omitempty"`
	UpdatedConfig map[string]bool `json:"updatedConfig,omitempty"`
	MovedTo       *movedTo        `json:"movedTo,omitempty"`
	Webhook       struct {
		ID      string `json:"id"`
		Version int    `json:"version"`
	} `json:"webhook"`
}

type repo struct {
	Type      payload.RepoType `json:"type"`
	Name      string           `json:"name"`
	ID        string           `json:"id"`
	Private   bool             `json:"private"`
	Subdomain string           `json:"subdomain,omitempty"`
	URL       struct {
		Web string `json:"web"`
		API string `json:"api"`
	} `json:"url"`
	HeadSHA string `json:"headSha,omitempty"`
	Owner   owner  `json:"owner"`
}

// owner has an empty id, because the Hub's API does not tell it. The field is there because handlers may need it.
type owner struct {
	ID string `json:"id"`
}

type updatedRef struct {
	Ref    string  `json:"ref"`
	OldSHA *string `json:"oldSha"`
	NewSHA *string `json:"newSha"`
}

type updatedFile struct {
	Path    string             `json:"path"`
	Action  payload.FileAction `json:"action"`
	XetHash string             `json:"xetHash,omitempty"`
	Size    *int64             `json:"size,omitempty"`
}

type movedTo struct {
	Name  string `json:"name"`
	Owner owner  `json:"owner"`
}

// newEvent begins an event of a repo as it was seen. base is the Hub's address.
func newEvent(base string, kind payload.RepoType, s *seen, action payload.Action, scope payload.Scope) *event {
	e := &event{}
	e.Event.Action, e.Event.Scope = action, scope
	e.Webhook.Version = 3
	segment := string(kind) + "s/"
	web := segment
	if kind == payload.Model {
		web = ""
	}
	e.Repo = repo{Type: kind, Name: s.Name, ID: s.ID, Private: s.Private, Subdomain: s.Subdomain}
	e.Repo.URL.Web, e.Repo.URL.API = base+"/"+web+s.Name, base+"/api/"+segment+s.Name
	if action != payload.Delete {
		e.Repo.HeadSHA = s.Refs["refs/heads/main"]
	}
	return e
}

// refsChanged lists the refs that differ, main first, then the others by name.
func refsChanged(old, now map[string]string) (changes []updatedRef) {
	sha := func(of map[string]string, ref string) *string {
		if v, ok := of[ref]; ok {
			return &v
		}
		return nil
	}
	for ref, is := range now {
		if old[ref] != is {
			changes = append(changes, updatedRef{ref, sha(old, ref), &is})
		}
	}
	for ref, was := range old {
		if _, there := now[ref]; !there {
			changes = append(changes, updatedRef{ref, &was, nil})
		}
	}
	slices.SortFunc(changes, func(a, b updatedRef) int {
		if main := "refs/heads/main"; a.Ref == main || b.Ref == main {
			return strings.Compare(fmt.Sprint(a.Ref != main), fmt.Sprint(b.Ref != main))
		}
		return cmp.Compare(a.Ref, b.Ref)
	})
	return changes
}

// filesChanged returns the list of files in a payload about changes of a bucket, and whether the list had to be cut.
func filesChanged(changes []hub.BucketChange) (files []updatedFile, cut bool) {
	files = []updatedFile{}
	for _, c := range changes {
		if len(files) == maxFiles {
			return files, true
		}
		f := updatedFile{Path: c.Path, Action: payload.FileDelete}
		if c.Op != "delete" { // the Hub's webhooks too call an overwritten file added
			f.Action, f.XetHash = payload.FileAdd, c.XetHash
			if c.Op == "add" || c.Size != 0 { // an update leaves out what stayed as it was
				f.Size = &c.Size
			}
		}
		files = append(files, f)
	}
	return files, false
}

// filesEvent tells of changed files of a bucket as it was seen.
func filesEvent(base string, s *seen, changes fileChanges) *event {
	e := newEvent(base, payload.Bucket, s, payload.Update, payload.ScopeRepoContent)
	files, cut := filesChanged(changes.list)
	e.UpdatedFiles, e.Truncated = &files, cut || changes.cut
	return e
}

// id makes a Webhook-Id of the text of an event and the number of events before it. Without the number, the same change made again later would have
// the same ID.
func (e *event) id(prefix string, count int64) (id string, body []byte, err error) {
	if body, err = json.Marshal(e); err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", count, body))
	return prefix + hex.EncodeToString(sum[:16]), body, nil
}
