package inspector

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
)

const (
	defaultLimit = 50
	maxLimit     = 1000
)

// parameters are the names that GET /api/deliveries knows in its query.
var parameters = []string{"endpoint", "state", "scope", "action", "repo", "q", "since", "replayed", "before", "limit"}

// onlyParameters refuses a query that has an unknown parameter or one twice, because the answer would not be what the caller meant.
func onlyParameters(query url.Values, names ...string) error {
	for name, values := range query {
		if !slices.Contains(names, name) {
			return fmt.Errorf("unknown parameter %q; there are %s", name, strings.Join(names, ", "))
		}
		if len(values) > 1 {
			return fmt.Errorf("parameter %q is given %d times", name, len(values))
		}
	}
	return nil
}

// parseFilter reads the query of GET /api/deliveries.
func parseFilter(query url.Values) (queue.Filter, error) {
	if err := onlyParameters(query, parameters...); err != nil {
		return queue.Filter{}, err
	}
	f := queue.Filter{
		Endpoint: query.Get("endpoint"),
		State:    queue.State(query.Get("state")),
		Scope:    query.Get("scope"),
		Action:   query.Get("action"),
		Repo:     query.Get("repo"),
		Query:    query.Get("q"),
		Before:   query.Get("before"),
		Limit:    defaultLimit,
	}
	if f.State != "" && !slices.Contains(queue.States(), f.State) {
		names := make([]string, 0, len(queue.States()))
		for _, s := range queue.States() {
			names = append(names, string(s))
		}
		return queue.Filter{}, fmt.Errorf("state: there is no %q; there are %s", f.State, strings.Join(names, ", "))
	}
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			return queue.Filter{}, fmt.Errorf("limit: want a number from 1 to %d, have %q", maxLimit, text)
		}
		f.Limit = n
	}
	if text := query.Get("since"); text != "" {
		since, err := ParseSince(text, time.Now())
		if err != nil {
			return queue.Filter{}, fmt.Errorf("since: %w", err)
		}
		f.Since = since
	}
	switch text := query.Get("replayed"); text {
	case "":
	case "false":
		f.Unreplayed = true
	default:
		return queue.Filter{}, fmt.Errorf("replayed: want false or nothing, have %q", text)
	}
	return f, nil
}

// ParseSince reads a time: in RFC 3339, or as a Go duration before now, such as 2h or 90m.
func ParseSince(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		if d < 0 {
			return time.Time{}, fmt.Errorf("%q lies in the future; leave the sign away", text)
		}
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("want a duration such as 2h or a time such as 2026-01-31T08:00:00Z, have %q", text)
	}
	if year := t.UTC().Year(); year < 1 || year > 9999 {
		return time.Time{}, fmt.Errorf("%q is in the year %d of UTC; want one from 1 to 9999", text, year)
	}
	return t, nil
}

// values returns the query for f. It is the inverse of parseFilter.
func values(f queue.Filter) url.Values {
	query := url.Values{}
	for name, value := range map[string]string{
		"endpoint": f.Endpoint,
		"state":    string(f.State),
		"scope":    f.Scope,
		"action":   f.Action,
		"repo":     f.Repo,
		"q":        f.Query,
		"before":   f.Before,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if !f.Since.IsZero() {
		query.Set("since", f.Since.UTC().Format(time.RFC3339Nano))
	}
	if f.Unreplayed {
		query.Set("replayed", "false")
	}
	if f.Limit != 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}
	return query
}
