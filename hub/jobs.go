package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// NewJob is a Job to start.
type NewJob struct {
	// Image is the Docker image that it runs in.
	Image string
	// Command is what it runs, an argument list.
	Command []string
	// Env are its variables.
	Env map[string]string
	// Secrets are variables that the Hub keeps to itself, a token for example.
	Secrets map[string]Secret
	// Flavor is the hardware: cpu-basic, t4-small and others. "": cpu-basic.
	Flavor string
	// Timeout ends it. 0: after the Hub's own time.
	Timeout time.Duration
	// Labels are for finding it again: see [Client.Jobs].
	Labels map[string]string
}

// StartedJob is a Job on the Hub.
type StartedJob struct {
	ID string
	// Owner is the user or the organization that it belongs to.
	Owner string
	// Stage is SCHEDULING, RUNNING, COMPLETED, CANCELED, ERROR or DELETED. The Hub may have others.
	Stage  string
	Labels map[string]string
	// URL is its page on the Hub.
	URL string
}

// UnmarshalJSON reads a Job as the Hub sends it, all but its URL. Fields of another type than expected are left out.
func (j *StartedJob) UnmarshalJSON(body []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return err
	}
	*j = StartedJob{}
	tolerant(fields["id"], &j.ID)
	tolerant(field(fields["owner"], "name"), &j.Owner)
	tolerant(field(fields["status"], "stage"), &j.Stage)
	tolerant(fields["labels"], &j.Labels)
	return nil
}

// StartJob starts a Job of a user or an organization. Where the Hub does not answer, the Job may run all the same: it is not started again.
// Give it a label, and look with [Client.Jobs] first. The path and the fields are those of huggingface_hub's run_job.
func (c *Client) StartJob(ctx context.Context, owner string, job NewJob) (StartedJob, error) {
	op := "start a Job of " + line(owner)
	path, err := c.jobsPath(op, owner)
	if err != nil {
		return StartedJob{}, err
	}
	call := call{op: op, method: http.MethodPost, url: c.address(path, nil), signed: true}
	environment, secrets := make(map[string]string), make(map[string]string)
	maps.Copy(environment, job.Env)
	for name, value := range job.Secrets {
		secrets[name] = string(value)
		call.secrets = append(call.secrets, string(value))
	}
	call.body, err = json.Marshal(struct {
		Image       string            `json:"dockerImage"`
		Command     []string          `json:"command"`
		Arguments   []string          `json:"arguments"`
		Environment map[string]string `json:"environment"`
		Secrets     map[string]string `json:"secrets,omitempty"`
		Flavor      string            `json:"flavor"`
		Timeout     int64             `json:"timeoutSeconds,omitzero"`
		Labels      map[string]string `json:"labels,omitempty"`
	}{
		Image: job.Image, Command: notNil(job.Command), Arguments: []string{}, Environment: environment, Secrets: secrets,
		Flavor: cmp.Or(job.Flavor, "cpu-basic"), Timeout: int64((job.Timeout + time.Second - 1) / time.Second), Labels: job.Labels,
	})
	if err != nil {
		return StartedJob{}, &Error{Op: op, Err: err, endpoint: c.Endpoint()}
	}
	var started StartedJob
	err = c.answered(ctx, call, &started)
	started.URL = c.jobURL(owner, started.ID)
	return started, err
}

// Jobs yields the Jobs of a user or an organization that have all these labels, page by page, in the Hub's order. The last value has an error
// where a page could not be read. The path and the fields are those of huggingface_hub's list_jobs.
func (c *Client) Jobs(ctx context.Context, owner string, labels map[string]string) iter.Seq2[StartedJob, error] {
	op := "list the Jobs of " + line(owner)
	path, err := c.jobsPath(op, owner)
	if err != nil {
		return failing[StartedJob](err)
	}
	query := url.Values{}
	for name, value := range labels {
		query.Add("label", name+"="+value)
	}
	return func(yield func(StartedJob, error) bool) {
		for job, err := range pages[StartedJob](ctx, c, op, path, query, nil) {
			job.URL = c.jobURL(owner, job.ID)
			if !yield(job, err) {
				return
			}
		}
	}
}

// jobsPath returns the path of an owner's Jobs in the API.
func (c *Client) jobsPath(op, owner string) (string, error) {
	if strings.Contains(owner, "/") || checkName(owner) != nil {
		return "", &Error{Op: op, Err: errors.New("it names no user and no organization"), endpoint: c.Endpoint()}
	}
	return "/api/jobs/" + url.PathEscape(owner), nil
}

// jobURL returns the page of a Job, "" for none. It is where huggingface_hub says that it is.
func (c *Client) jobURL(owner, id string) string {
	if id == "" {
		return ""
	}
	return c.Endpoint() + "/jobs/" + url.PathEscape(owner) + "/" + url.PathEscape(id)
}
