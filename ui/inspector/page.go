package inspector

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"

	"github.com/hubhook/hubhook/queue"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string

	pageTemplate = template.Must(template.New("page").Parse(pageHTML))

	// contentSecurityPolicy allows our own style sheet and nothing else: no script, no form, no frame, nothing from elsewhere.
	contentSecurityPolicy = "default-src 'none'; style-src 'sha256-" + styleHash() + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

func styleHash() string {
	sum := sha256.Sum256([]byte(pageCSS))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// stateCount is one of the numbers at the head of the page.
type stateCount struct {
	State  queue.State
	Number int64
}

// page answers GET / with the newest deliveries.
func (in *Inspector) page(w http.ResponseWriter, r *http.Request) {
	deliveries, _, err := in.config.Queue.List(r.Context(), queue.Filter{Limit: defaultLimit})
	if err != nil {
		fail(w, "listing deliveries", err)
		return
	}
	counts, err := in.config.Queue.Counts(r.Context())
	if err != nil {
		fail(w, "counting deliveries", err)
		return
	}
	var status Status
	status.count(counts)
	data := struct {
		Style      template.CSS
		Counts     []stateCount
		Deliveries []Delivery
	}{Style: template.CSS(pageCSS)}
	for _, state := range queue.States() {
		if n := status.Counts[state]; n > 0 {
			data.Counts = append(data.Counts, stateCount{state, n})
		}
	}
	for _, d := range deliveries {
		data.Deliveries = append(data.Deliveries, FromQueue(d))
	}
	var page bytes.Buffer
	if err := pageTemplate.Execute(&page, data); err != nil {
		fail(w, "making the page", err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(page.Bytes()) // who has gone away needs no answer
}
