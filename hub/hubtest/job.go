package hubtest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// StartedJob is a Job that was started through the API. The stand-in keeps it, and runs nothing: its stage stays RUNNING.
type StartedJob struct {
	Job
	// ID has 24 hexadecimal digits.
	ID string
	// Owner is the user or the organization that the Job belongs to.
	Owner string
	// Labels are those that it was started with.
	Labels map[string]string
	// Secrets are its secret variables, with their values.
	Secrets map[string]string
	// Timeout is how long it may run, 0 where the request does not say.
	Timeout time.Duration

	by      string // who started it
	created time.Time
}

// StartedJobs returns the Jobs that were started through the API, oldest first.
func (h *Hub) StartedJobs() []StartedJob {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []StartedJob
	for _, j := range h.jobs {
		all = append(all, *j)
	}
	return all
}

func jobRoutes(handle func(pattern string, answer answerer)) {
	handle("GET /api/jobs/{owner}", locked(listJobs))
	handle("POST /api/jobs/{owner}", startJob)
}

// jobsOf returns the owner that the path names, whose Jobs the caller must be allowed to see and to start. It is called with the lock held.
func (c *call) jobsOf() (string, error) {
	t, err := c.needsToken(WriteJobs)
	if err != nil {
		return "", err
	}
	owner := c.r.PathValue("owner")
	if !c.hub.Accounts.reads(t.User, owner) {
		return "", &apiError{status: http.StatusForbidden, messages: []string{"You don't have the rights to the Jobs of " + owner}}
	}
	return owner, nil
}

// startJob answers POST /api/jobs/OWNER. The request and the answer are those of huggingface_hub's run_job.
func startJob(c *call) (any, error) {
	c.hub.mu.Lock()
	owner, err := c.jobsOf()
	c.hub.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var body struct {
		Job
		Secrets        map[string]string `json:"secrets"`
		Labels         map[string]string `json:"labels"`
		TimeoutSeconds int64             `json:"timeoutSeconds"`
	}
	if err := c.read(&body); err != nil {
		return nil, err
	}
	if (body.DockerImage == "") == (body.SpaceID == "") || len(body.Command) == 0 || body.Flavor == "" {
		return nil, &apiError{messages: []string{"A Job needs a dockerImage or a spaceId, a command and a flavor"}}
	}
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	j := &StartedJob{
		Job: body.Job, ID: objectID(), Owner: owner, Labels: body.Labels, Secrets: body.Secrets,
		Timeout: time.Duration(body.TimeoutSeconds) * time.Second, by: c.user(), created: c.hub.options.Now(),
	}
	c.hub.jobs = append(c.hub.jobs, j)
	return c.jobFields(j), nil
}

// listJobs answers GET /api/jobs/OWNER: the Jobs with all labels KEY=VALUE of the query, newest first (an assumption).
func listJobs(c *call) (any, error) {
	owner, err := c.jobsOf()
	if err != nil {
		return nil, err
	}
	p, first, err := c.numbered(100)
	if err != nil {
		return nil, err
	}
	wanted := c.r.URL.Query()["label"]
	all := []any{}
	for _, j := range slices.Backward(c.hub.jobs) {
		has := func(label string) bool {
			key, value, _ := strings.Cut(label, "=")
			got, there := j.Labels[key]
			return there && got == value
		}
		if j.Owner == owner && !slices.ContainsFunc(wanted, func(label string) bool { return !has(label) }) {
			all = append(all, c.jobFields(j))
		}
	}
	all = all[min(first, len(all)):]
	if len(all) > p.size {
		all = all[:p.size]
		p.linkNext(strconv.Itoa(first + p.size))
	}
	return all, nil
}

// jobFields returns what the API says of a Job: what huggingface_hub reads of it, without its secrets. It is called with the lock held.
func (c *call) jobFields(j *StartedJob) any {
	account := func(name string) map[string]string {
		return map[string]string{"id": c.hub.Accounts.ensure(name).id, "name": name, "type": "user"}
	}
	all := map[string]any{
		"id": j.ID, "createdAt": stamp(j.created), "command": j.Command, "arguments": j.Arguments,
		"environment": j.Environment, "flavor": j.Flavor, "labels": j.Labels,
		"status": map[string]string{"stage": "RUNNING"}, "owner": account(j.Owner), "initiator": account(j.by),
	}
	if j.DockerImage != "" {
		all["dockerImage"] = j.DockerImage
	} else {
		all["spaceId"] = j.SpaceID
	}
	return all
}
