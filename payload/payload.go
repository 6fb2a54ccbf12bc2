// Package payload reads what the Hugging Face Hub posts to a webhook.
//
// [Parse] turns the body of a delivery into a [Payload]. The Hub changes its
// payloads without notice, so Parse refuses little. It keeps scopes, actions and
// repo types that this package does not know. It leaves a field at its zero value
// when the Hub sends another type than documented. [Payload.Lookup] finds every
// field as it was sent, also one that Payload does not have. Parse needs only four
// fields, because nothing can be done with an event without them: event.action,
// event.scope, repo.type and repo.name.
//
// [Payload.Is], [Payload.In] and [Payload.TouchesBranch] tell a handler which event
// it has. [Payload.Summary] and [Payload.Links] tell it to people.
//
// [Sample] makes a payload of any documented event, for tests and for trying a
// handler.
//
// The fields are those of version 3 of the payload, which
// https://huggingface.co/docs/hub/webhooks documents. Where a field is not in that
// documentation, its comment says where it was seen.
package payload

import (
	"encoding/json"
)

//go:generate go test . -run TestFields$ -update

// Payload is the body of one delivery. It has no time and no delivery id. It does
// not say who pushed. Other users are known by their ids, not by name.
//
// Do not change a Payload that Parse returned. Several goroutines may read it.
//
// The tag hub:"required" marks the fields that Parse needs.
type Payload struct {
	Event Event `json:"event" hub:"required"`
	Repo  Repo  `json:"repo" hub:"required"`

	// UpdatedRefs are the branches, tags and other refs that a repo.content
	// event created, moved or deleted. A bucket has none. The Hub may leave
	// the field out for other repos too. Entries without a ref are left out.
	UpdatedRefs []Ref `json:"updatedRefs,omitzero"`

	// UpdatedFiles are the files that a repo.content event of a bucket added
	// or deleted. The Hub sends at most 10,000 of them. Entries without a
	// path are left out.
	UpdatedFiles []File `json:"updatedFiles,omitzero"`

	// UpdatedFilesTruncated says that more files changed than UpdatedFiles
	// lists.
	UpdatedFilesTruncated bool `json:"updatedFilesTruncated,omitzero"`

	// UpdatedConfig holds the settings that a repo.config event changed, by
	// name. The documented name is "private". The map is empty when the Hub
	// does not say which setting changed, a Space's secret for example. It is
	// nil when the field is missing.
	UpdatedConfig map[string]json.RawMessage `json:"updatedConfig,omitzero"`

	// MovedTo is the repo's new place, with the action move. It is nil
	// otherwise. It is not documented; the huggingface_hub library has it.
	MovedTo *MovedTo `json:"movedTo,omitzero"`

	// Discussion is the discussion or pull request of an event with the scope
	// discussion or discussion.comment. It is nil otherwise.
	Discussion *Discussion `json:"discussion,omitzero"`

	// Comment is the comment of a discussion.comment event, or the first
	// comment of a new discussion. It is nil otherwise.
	Comment *Comment `json:"comment,omitzero"`

	Webhook Webhook `json:"webhook"`

	raw []byte
}

// Event says what happened, and to what.
type Event struct {
	Action Action `json:"action" hub:"required"`
	Scope  Scope  `json:"scope" hub:"required"`
}

// Action is what happened. The Hub may add actions to the four named here.
type Action string

// The documented actions. The documentation lists Move without describing it.
const (
	Create Action = "create"
	Delete Action = "delete"
	Update Action = "update"
	Move   Action = "move"
)

// RepoType is a kind of repo. The Hub may add types to those named here.
type RepoType string

// The known types. Kernel is not documented for webhooks. The Hub's client
// libraries have it.
const (
	Model   RepoType = "model"
	Dataset RepoType = "dataset"
	Space   RepoType = "space"
	Bucket  RepoType = "bucket"
	Kernel  RepoType = "kernel"
)

// Repo is the repo that the event is about, as it is after the event.
type Repo struct {
	Type RepoType `json:"type" hub:"required"`
	// Name is owner/name. A few old repos have a name without owner and slash.
	Name string `json:"name" hub:"required"`
	// ID stays the same when the repo is renamed.
	ID string `json:"id,omitzero"`
	// Private is also false when the field is missing.
	Private bool `json:"private"`
	// Subdomain is a Space's first label under hf.space. It was seen in
	// repo.content events. Other events may lack it.
	Subdomain string `json:"subdomain,omitzero"`
	URL       URL    `json:"url,omitzero"`
	// HeadSHA is the commit at the head of main, in 40 hexadecimal digits. It
	// comes with the scopes that begin with repo, never for buckets. When
	// another branch or a pull request was pushed to, Ref.NewSHA has the new
	// commit and HeadSHA has not.
	HeadSHA string  `json:"headSha,omitzero"`
	Owner   Account `json:"owner,omitzero"`
	// Tags is obsolete: the documentation had it until March 2026.
	Tags []string `json:"tags,omitzero"`
}

// URL holds the addresses of a repo, a discussion or a comment.
type URL struct {
	Web string `json:"web,omitzero"`
	// API is the address in the Hub's API. A comment has none.
	API string `json:"api,omitzero"`
}

// Account is a user or an organization. The Hub sends its id, not its name.
type Account struct {
	ID string `json:"id"`
}

// MovedTo is the new place of a repo that moved.
type MovedTo struct {
	Name  string  `json:"name"`
	Owner Account `json:"owner,omitzero"`
}

// File is one changed file of a bucket.
type File struct {
	Path   string     `json:"path" hub:"required"`
	Action FileAction `json:"action"`
	// XetHash is 64 hexadecimal digits. It comes with FileAdd only.
	XetHash string `json:"xetHash,omitzero"`
	// Size is in bytes. It comes with FileAdd only.
	Size int64 `json:"size,omitzero"`
}

// FileAction is what happened to a file of a bucket.
type FileAction string

// The documented file actions. A file that was overwritten is a FileAdd too.
const (
	FileAdd    FileAction = "add"
	FileDelete FileAction = "delete"
)

// Discussion is a discussion or a pull request. Buckets have none.
type Discussion struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	// A reply is posted to URL.API with /comment after it.
	URL    URL              `json:"url,omitzero"`
	Status DiscussionStatus `json:"status"`
	Author Account          `json:"author,omitzero"`
	// Num is the number in the discussion's URL.
	Num           int64 `json:"num"`
	IsPullRequest bool  `json:"isPullRequest"`
	// Changes is nil for a discussion that is not a pull request.
	Changes *Changes `json:"changes,omitzero"`
	// Pinned is not documented; the huggingface_hub library has it. It is
	// also false when the field is missing.
	Pinned bool `json:"pinned,omitzero"`
}

// DiscussionStatus is the state of a discussion or pull request.
type DiscussionStatus string

// The statuses that the huggingface_hub library knows. The documentation shows
// only StatusOpen.
const (
	StatusOpen   DiscussionStatus = "open"
	StatusClosed DiscussionStatus = "closed"
	StatusMerged DiscussionStatus = "merged"
	StatusDraft  DiscussionStatus = "draft"
)

// Changes is what a pull request wants to change.
type Changes struct {
	// Base is the ref that the pull request is to be merged into, such as
	// refs/heads/main.
	Base string `json:"base"`
	// MergeCommitID is absent or null until the merge. It is not documented;
	// the huggingface_hub library has it.
	MergeCommitID SHA `json:"mergeCommitId,omitzero"`
}

// Comment is a comment of a discussion.
type Comment struct {
	ID     string  `json:"id"`
	Author Account `json:"author,omitzero"`
	// Content is Markdown. The Hub leaves it out when the comment is hidden.
	Content string `json:"content,omitzero"`
	Hidden  bool   `json:"hidden"`
	// URL.Web is the comment's place on the page of its discussion.
	URL URL `json:"url,omitzero" hub:"only=web"`
}

// Webhook is the registration on the Hub that the delivery comes from.
type Webhook struct {
	// ID is the webhook's id in the Hub's settings and API. It is not the
	// delivery's id, which is in the Webhook-Id header.
	ID string `json:"id,omitzero"`
	// Version is 3 today. The Hub changes it for breaking changes only.
	Version int64 `json:"version,omitzero"`
}

// Raw returns the payload byte for byte as it was sent. It returns the slice that
// was given to Parse, not a copy: do not change it. Raw returns nil for a Payload
// that was not made by Parse or Sample.
func (p *Payload) Raw() []byte { return p.raw[:len(p.raw):len(p.raw)] }

// MarshalJSON returns Raw. For a Payload without Raw it returns the fields as JSON.
// [json.Marshal] removes white space from the result. It refuses more than 10,000
// levels of nesting, which Parse takes.
func (p Payload) MarshalJSON() ([]byte, error) {
	if p.raw != nil {
		return p.Raw(), nil
	}
	type fields Payload // without this method
	return json.Marshal(fields(p))
}

// UnmarshalJSON sets p to what Parse makes of a copy of b.
func (p *Payload) UnmarshalJSON(b []byte) error {
	parsed, err := Parse(append([]byte(nil), b...))
	if err != nil {
		return err
	}
	*p = *parsed
	return nil
}
