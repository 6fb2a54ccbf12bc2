package keep

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/hubhook/hubhook/internal/text"
)

// Record is what hubhook has begun on the Hub. It is stored before the Hub is asked for a change, so that after a crash the next start, or
// `hubhook hub cleanup`, can finish or undo the change.
type Record struct {
	Version int      `json:"version"`
	Entries []*Entry `json:"webhooks"`
}

// Entry is one webhook of a Record.
type Entry struct {
	Hub      string `json:"hub"`          // base URL of the Hub that has the webhook
	Endpoint string `json:"endpoint"`     // of hubhook, to which the webhook posts
	ID       string `json:"id,omitempty"` // "" until the Hub has said it
	// User is the name of the Hub's user to whom the webhook belongs: that of the token. "" where the Hub did not say it.
	User string `json:"user,omitempty"`

	// URLs are those that hubhook gave the webhook, or was about to give it, without secrets. If the webhook has another URL, someone else has
	// changed it.
	URLs []string `json:"urls,omitempty"`
	// Others are the IDs of webhooks that had one of URLs before hubhook asked for a new webhook. After a crash that lost the new ID, they tell
	// the new webhook from webhooks of others.
	Others []string `json:"others,omitempty"`
	// Enabled is true from before hubhook enables the webhook until the Hub has confirmed that it is disabled.
	Enabled bool `json:"enabled,omitempty"`
	// Secret is a secret that hubhook generated. Configured secrets are never stored.
	Secret string `json:"secret,omitempty"`
	// Borrowed is what a borrowed webhook had before hubhook changed it; nil for a webhook that hubhook made.
	Borrowed *Original `json:"borrowed,omitempty"`
}

// Original is what a borrowed webhook gets back.
type Original struct {
	URL   string `json:"url"`   // with "(hidden)" in place of each secret; an earlier version stored the secrets
	State string `json:"state"` // of hub.WebhookState, whose own form in JSON is that of the Hub
}

const recordVersion = 1

// RecordFile is the name of the file in the data directory that has the Record.
const RecordFile = "webhooks.json"

// File stores a Record in a file that only its owner can read. One process at a time may use the file; the lock of the data directory ensures that.
type File struct{ path string }

// InDirectory returns the file of a data directory. It need not exist.
func InDirectory(dir string) File { return File{filepath.Join(dir, RecordFile)} }

// Load returns the stored Record, an empty one where there is no file.
func (f File) Load() (Record, error) {
	data, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{Version: recordVersion}, nil
	}
	if err != nil {
		return Record{}, fmt.Errorf("read the record of the Hub's webhooks in %s: %w", f.path, text.FileCause(err))
	}
	return DecodeRecord(data, f.path)
}

// DecodeRecord reads the stored form of a Record. place says where it stands, for the error.
func DecodeRecord(data []byte, place string) (Record, error) {
	const leftovers = "and look at https://huggingface.co/settings/webhooks for webhooks that hubhook left behind"
	damaged := func(what string) (Record, error) {
		return Record{}, text.WithHint(fmt.Errorf("read the record of the Hub's webhooks: %s is damaged", what), "move "+place+" away, "+leftovers)
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil || r.Version < 1 {
		return damaged(place) // without the decoder's error: it may repeat a secret
	}
	if r.Version > recordVersion {
		return Record{}, text.WithHint(fmt.Errorf("read the record of the Hub's webhooks: %s is of a newer hubhook", place),
			"use the newer hubhook, or clean up with it: hubhook hub cleanup")
	}
	for i, e := range r.Entries {
		if e == nil || e.Hub == "" || e.Endpoint == "" {
			return damaged(fmt.Sprintf("entry %d of %s", i+1, place))
		}
	}
	return r, nil
}

// Encode returns the stored form of a Record.
func (r Record) Encode() ([]byte, error) {
	r.Version = recordVersion
	return json.MarshalIndent(r, "", "  ")
}

// Save replaces the stored Record. It returns once the Record is on the disk; after an error, or a crash, the Record before is still there.
func (f File) Save(r Record) error {
	data, err := r.Encode()
	if err == nil {
		err = replaceSynced(f.path, append(data, '\n'))
	}
	if err != nil {
		return text.WithHint(fmt.Errorf("store the record of the Hub's webhooks in %s: %w", f.path, text.FileCause(err)),
			"without it a crash could leave a webhook behind, so nothing is changed on the Hub; is the disk full, or the directory read-only?")
	}
	return nil
}

// replaceSynced writes data to a new file that only its owner can read, syncs it, and renames it to path.
func replaceSynced(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDirectory(filepath.Dir(path))
}

// syncDirectory makes a rename in a directory durable. Windows can't sync directories, and needs no sync there.
func syncDirectory(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
