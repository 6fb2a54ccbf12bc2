// Command bare is the server that bench compares hubhook with: the simplest webhook server with net/http and encoding/json alone. It
// stores nothing, checks no secret and has one endpoint. Its only argument is the host:port to listen on.
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
)

// webhookEvent has the fields that payload.Payload has.
type webhookEvent struct {
	Event struct {
		Action string `json:"action"`
		Scope  string `json:"scope"`
	} `json:"event"`
	Repo struct {
		Type      string   `json:"type"`
		Name      string   `json:"name"`
		ID        string   `json:"id"`
		Private   bool     `json:"private"`
		URL       link     `json:"url"`
		Owner     account  `json:"owner"`
		HeadSHA   string   `json:"headSha"`
		Subdomain string   `json:"subdomain"`
		Tags      []string `json:"tags"`
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
		Name  string  `json:"name"`
		Owner account `json:"owner"`
	} `json:"movedTo"`
	Discussion *struct {
		ID            string  `json:"id"`
		Num           int64   `json:"num"`
		Title         string  `json:"title"`
		Status        string  `json:"status"`
		IsPullRequest bool    `json:"isPullRequest"`
		Author        account `json:"author"`
		URL           link    `json:"url"`
		Changes       *struct {
			Base          string  `json:"base"`
			MergeCommitID *string `json:"mergeCommitId"`
		} `json:"changes"`
		Pinned bool `json:"pinned"`
	} `json:"discussion"`
	Comment *struct {
		ID      string  `json:"id"`
		Author  account `json:"author"`
		Content string  `json:"content"`
		Hidden  bool    `json:"hidden"`
		URL     link    `json:"url"`
	} `json:"comment"`
	Webhook struct {
		ID      string `json:"id"`
		Version int64  `json:"version"`
	} `json:"webhook"`
}

type link struct {
	Web string `json:"web"`
	API string `json:"api"`
}

type account struct {
	ID string `json:"id"`
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: bare HOST:PORT")
	}
	http.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, `{"status":"ok"}`)
	})
	http.HandleFunc("POST /webhooks/inbox", func(w http.ResponseWriter, r *http.Request) {
		var event webhookEvent
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		if event.Event.Scope != "repo.content" || len(event.UpdatedRefs) == 0 {
			http.Error(w, "not a push", http.StatusUnprocessableEntity)
			return
		}
		answer(w, "{}")
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}

func answer(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	if _, err := io.WriteString(w, body); err != nil {
		log.Print(err)
	}
}
