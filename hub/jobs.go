package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"time"
)

// NewJob is a Job to start.
type NewJob struct {
	// Image is the Docker image that the Job runs in.
	Image string
	// Command is the program and its arguments.
	Command []string
	// Env are environment variables.
	Env map[string]string
	// Secrets are variables that the Hub keeps to itself, a token for example.
	Secrets map[string]Secret
	// Flavor is the hardware: cpu-basic, t4-small and others. "": cpu-basic.
	Flavor string
	// Timeout is how long the Job may run, rounded up to seconds. 0: as long as the Hub lets it by default.
	Timeout time.Duration
	// Labels are what [Client.Jobs] finds the Job by.
	Labels map[string]string
}

// StartedJob is a Job on the Hub.
type StartedJob struct {
	ID string
	// Owner is the user or the organization that the Job belongs to.
	Owner string
	// Stage is SCHEDULING, RUNNING, COMPLETED, CANCELED, ERROR or DELETED. The Hub may have others.
	Stage  string
	Labels map[string]string
	// URL is the Job's page on the Hub.
	URL string
}

// UnmarshalJSON reads a Job as the Hub sends it, all but its URL. Fields of another type than expected are left out.
func (j *StartedJob) UnmarshalJSON(body []byte) error {
	*j = StartedJob{}
	return readFields(body, map[string]func(json.RawMessage){
		"id": into(&j.ID), "owner": within("name", into(&j.Owner)), "status": within("stage", into(&j.Stage)), "labels": into(&j.Labels),
	})
}

// StartJob starts a Job of a user or an organization. Where the Hub does not answer, the Job may run all the same, so StartJob does not send the
// request again. Give the Job a label, and look for that with [Client.Jobs] before you start it once more. The path and the fields are those of huggingface_hub's run_job.
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
	if err := checkOwner(owner); err != nil {
		return "", &Error{Op: op, Err: err, endpoint: c.Endpoint()}
	}
	return "/api/jobs/" + url.PathEscape(owner), nil
}

// jobURL returns the address of a Job's page, in the form that huggingface_hub has, "" without an id.
func (c *Client) jobURL(owner, id string) string {
	if id == "" {
		return ""
	}
	return c.Endpoint() + "/jobs/" + url.PathEscape(owner) + "/" + url.PathEscape(id)
}
