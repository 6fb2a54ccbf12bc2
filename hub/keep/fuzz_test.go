package keep

import (
	"reflect"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/internal/text"
)

// FuzzRecord reads anything as webhooks.json. What can be read is the same once it is written again; the error says what to do, and does not
// repeat a secret.
func FuzzRecord(f *testing.F) {
	const secret = "s3cretOfTheWebhook"
	for _, record := range []string{
		`{"version": 1, "webhooks": [{"hub": "https://huggingface.co", "endpoint": "train", "id": "1", "urls": ["https://a/webhooks/train"], "enabled": true, "secret": "` + secret + `", "borrowed": {"url": "u", "state": "enabled"}}]}`,
		`{"version": 1, "webhooks": [null]}`, `{"version": 1, "webhooks": [{}]}`, `{"version": 99999}`, `{"version": 0}`, `{"version": 1e400}`, `{"version": 1, "webhooks": "` + secret + `"}`, `null`, `[]`, "\x00", "",
	} {
		f.Add(record)
	}
	f.Fuzz(func(t *testing.T, record string) {
		r, err := DecodeRecord([]byte(record), "/data/webhooks.json")
		if err != nil {
			if text.Hint(err) == "" || strings.Contains(err.Error()+text.Hint(err), secret) {
				t.Errorf("%q: %v, hint %q", record, err, text.Hint(err))
			}
			return
		}
		written, err := r.Encode()
		if err != nil {
			t.Fatalf("%q was read but can't be written: %v", record, err)
		}
		again, err := DecodeRecord(written, "there")
		if err != nil || len(again.Entries) != len(r.Entries) {
			t.Fatalf("%q is written as %s: %v", record, written, err)
		}
		for i := range r.Entries {
			if !reflect.DeepEqual(again.Entries[i], r.Entries[i]) && len(r.Entries[i].URLs)+len(r.Entries[i].Others) > 0 {
				t.Errorf("%q: entry %d is %+v, once written %+v", record, i, r.Entries[i], again.Entries[i])
			}
		}
	})
}
