// Package payload reads what the Hugging Face Hub posts to a webhook.
//
// [Parse] turns the body of a delivery into a [Payload]. It is made for a
// sender that grows without notice: fields, scopes, actions and repo types that
// this package does not know are kept, a field of another shape than documented
// is left at its zero value, and [Payload.Lookup] reaches all of them in the
// bytes as they were sent. Only four fields must be usable, because nothing can
// be done with an event without them: event.action, event.scope, repo.type and
// repo.name.
//
// The shapes are those of version 3 of the payload, see
// https://huggingface.co/docs/hub/webhooks. Fields which that page leaves out
// say where they were seen instead.
//
// [Sample] makes payloads of every documented scope and action, for tests and
// for trying a handler.
package payload

import (
	"encoding/json"
)

//go:generate go test . -run TestFields$ -update

// Payload is the body of one delivery. It carries no time, no delivery id and
// nobody's name: who pushed or commented is known by id only, if at all.
//
// A Payload made by Parse must not be changed, and may then be read from several
// goroutines.
type Payload struct {
	Event Event `json:"event" hub:"required"`
	Repo  Repo  `json:"repo" hub:"required"`

	// UpdatedRefs are the branches, tags and other refs that a repo.content
	// event created, moved or deleted. Buckets have none, and it may be
	// missing elsewhere too. Entries without a ref in them are left out.
	UpdatedRefs []Ref `json:"updatedRefs,omitzero"`

	// UpdatedFiles are the files that a repo.content event of a bucket added
	// or deleted. The Hub sends at most 10,000 of them. Entries without a
	// path are left out.
	UpdatedFiles []File `json:"updatedFiles,omitzero"`

	// UpdatedFilesTruncated says that more files changed than UpdatedFiles
	// lists.
	UpdatedFilesTruncated bool `json:"updatedFilesTruncated,omitzero"`

	// UpdatedConfig holds the settings that a repo.config event changed, by
	// name: "private" is documented. It is empty but not nil when the Hub
	// does not tell which setting it was (a Space's secret, for example), and
	// nil when the field is missing.
	UpdatedConfig map[string]json.RawMessage `json:"updatedConfig,omitzero"`

	// MovedTo is where the repo went, with the action move, and nil otherwise.
	// The documentation lacks it; the huggingface_hub library has it.
	MovedTo *MovedTo `json:"movedTo,omitzero"`

	// Discussion is the discussion or pull request of a discussion or
	// discussion.comment event, and nil otherwise.
	Discussion *Discussion `json:"discussion,omitzero"`

	// Comment is the comment of a discussion.comment event, or the first
	// comment of a discussion that was created. It is nil otherwise.
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

// The documented actions, except Move, which the documentation lists without
// describing it.
const (
	Create Action = "create"
	Delete Action = "delete"
	Update Action = "update"
	Move   Action = "move"
)

// RepoType is a kind of repo. The Hub may add types to those named here.
type RepoType string

// The known types. Kernel is not documented for webhooks; the Hub's own client
// libraries have it as a repo type.
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
	// Name is owner/name; a few old repos have no owner and no slash.
	Name string `json:"name" hub:"required"`
	// ID stays the same when the repo is renamed.
	ID string `json:"id,omitzero"`
	// Private is also false when the field is missing.
	Private bool `json:"private"`
	// Subdomain is a Space's first label under hf.space. It was seen in
	// repo.content events and may be missing in others.
	Subdomain string `json:"subdomain,omitzero"`
	URL       URL    `json:"url,omitzero"`
	// HeadSHA is the commit at the head of main, 40 hexadecimal digits. It is
	// sent with the scopes that begin with repo, never for buckets. It is not
	// the new commit of a push to another branch or to a pull request: see
	// Ref.NewSHA.
	HeadSHA string  `json:"headSha,omitzero"`
	Owner   Account `json:"owner,omitzero"`
	// Tags is obsolete: the documentation had it until March 2026.
	Tags []string `json:"tags,omitzero"`
}

// URL holds the addresses of a repo, a discussion or a comment.
type URL struct {
	Web string `json:"web,omitzero"`
	// API is empty for comments.
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
	// XetHash (64 hexadecimal digits) and Size (in bytes) come with FileAdd
	// only.
	XetHash string `json:"xetHash,omitzero"`
	Size    int64  `json:"size,omitzero"`
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
	// URL.API with /comment after it is where a reply is posted.
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

// The statuses that the huggingface_hub library knows; the documentation shows
// StatusOpen only.
const (
	StatusOpen   DiscussionStatus = "open"
	StatusClosed DiscussionStatus = "closed"
	StatusMerged DiscussionStatus = "merged"
	StatusDraft  DiscussionStatus = "draft"
)

// Changes is what a pull request wants to change.
type Changes struct {
	// Base is the ref that it is to be merged into, such as refs/heads/main.
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
	// URL.Web is the comment's place in the page of its discussion.
	URL URL `json:"url,omitzero" hub:"only=web"`
}

// Webhook is the registration on the Hub that the delivery comes from.
type Webhook struct {
	// ID is the webhook's id in the Hub's settings and API. It is not the
	// delivery's, which is in the Webhook-Id header.
	ID string `json:"id,omitzero"`
	// Version is 3 today; the Hub changes it for breaking changes only.
	Version int64 `json:"version,omitzero"`
}

// Raw returns the payload byte for byte as it was given to Parse. They are the
// same bytes, not a copy: don't change them. Raw returns nil for a Payload that
// was not made by Parse or Sample.
func (p *Payload) Raw() []byte { return p.raw[:len(p.raw):len(p.raw)] }

// MarshalJSON returns Raw, or the fields where there is no Raw. [json.Marshal]
// then removes the space between tokens, and refuses more than 10,000 levels of
// nesting, which Parse does not.
func (p Payload) MarshalJSON() ([]byte, error) {
	if p.raw != nil {
		return p.Raw(), nil
	}
	type fields Payload // without this method
	return json.Marshal(fields(p))
}

// UnmarshalJSON is Parse on a copy of b.
func (p *Payload) UnmarshalJSON(b []byte) error {
	parsed, err := Parse(append([]byte(nil), b...))
	if err != nil {
		return err
	}
	*p = *parsed
	return nil
}
