package payload

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// plain has the fields of Payload in structs as anyone would write them for
// encoding/json.
type plain struct {
	Event struct {
		Action string `json:"action"`
		Scope  string `json:"scope"`
	} `json:"event"`
	Repo struct {
		Type      string       `json:"type"`
		Name      string       `json:"name"`
		ID        string       `json:"id"`
		Private   bool         `json:"private"`
		URL       plainURL     `json:"url"`
		Owner     plainAccount `json:"owner"`
		HeadSHA   string       `json:"headSha"`
		Subdomain string       `json:"subdomain"`
		Tags      []string     `json:"tags"`
	} `json:"repo"`
	UpdatedRefs []struct {
		Ref    string  `json:"ref"`
		OldSHA *string `json:"oldSha"`
		NewSHA *string `json:"newSha"`
	} `json:"updatedRefs"`
	UpdatedFiles []struct {
		Path    string `json:"path"`
		Action  string `json:"action"`
		XetHash string `json:"xetHash"`
		Size    int64  `json:"size"`
	} `json:"updatedFiles"`
	UpdatedFilesTruncated bool                       `json:"updatedFilesTruncated"`
	UpdatedConfig         map[string]json.RawMessage `json:"updatedConfig"`
	MovedTo               *struct {
		Name  string       `json:"name"`
		Owner plainAccount `json:"owner"`
	} `json:"movedTo"`
	Discussion *struct {
		ID            string       `json:"id"`
		Num           int64        `json:"num"`
		Title         string       `json:"title"`
		Status        string       `json:"status"`
		IsPullRequest bool         `json:"isPullRequest"`
		Author        plainAccount `json:"author"`
		URL           plainURL     `json:"url"`
		Changes       *struct {
			Base          string  `json:"base"`
			MergeCommitID *string `json:"mergeCommitId"`
		} `json:"changes"`
		Pinned bool `json:"pinned"`
	} `json:"discussion"`
	Comment *struct {
		ID      string       `json:"id"`
		Author  plainAccount `json:"author"`
		Content string       `json:"content"`
		Hidden  bool         `json:"hidden"`
		URL     plainURL     `json:"url"`
	} `json:"comment"`
	Webhook struct {
		ID      string `json:"id"`
		Version int64  `json:"version"`
	} `json:"webhook"`
}

type plainURL struct {
	Web string `json:"web"`
	API string `json:"api"`
}

type plainAccount struct {
	ID string `json:"id"`
}

// largestBucket is a bucket's payload with as many files as the Hub sends at most.
func largestBucket(t testing.TB) []byte {
	t.Helper()
	p, err := Sample(ScopeRepoContent, "", map[string]any{"repo.type": Bucket})
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for i := range maxFiles {
		files = append(files, fmt.Sprintf(`{"path":"data/2026-11-23/train-%05d-of-10000.parquet","action":"add","xetHash":"%064x","size":%d}`, i, i*i, 1000+i))
	}
	list, ok := p.Lookup("updatedFiles")
	if !ok {
		t.Fatal("the sample of a bucket has no updatedFiles")
	}
	return []byte(strings.Replace(string(p.Raw()), string(list), "["+strings.Join(files, ",")+"]", 1))
}

// BenchmarkParse runs each payload through Parse and, to be compared with it in
// the same run, through encoding/json into plain.
func BenchmarkParse(b *testing.B) {
	files := fixtures(b)
	for _, bench := range []struct {
		name string
		body []byte
	}{
		{"push", files["synthetic_repo_content_update_main_model"]},
		{"discussion", files["real_discussion_create_pr_model"]},
		{"config", files["synthetic_repo_config_update_public_model"]},
		{"bucket-10000-files", largestBucket(b)},
	} {
		b.Run(bench.name+"/payload", func(b *testing.B) {
			b.SetBytes(int64(len(bench.body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(bench.body); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bench.name+"/encoding-json", func(b *testing.B) {
			b.SetBytes(int64(len(bench.body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := json.Unmarshal(bench.body, new(plain)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
