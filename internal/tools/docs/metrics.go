package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/server"
)

// metricTable lists the metrics that a server serves once it has stored a delivery.
func metricTable() ([]string, error) {
	text, err := scrape()
	if err != nil {
		return nil, fmt.Errorf("ask a server for its metrics: %w", err)
	}
	var rows [][]string
	for _, m := range metricHead.FindAllStringSubmatch(text, -1) {
		name, help, kind := m[1], m[2], m[3]
		labels, values := labelsOf(text, name)
		said := sentence(help)
		if kind != "counter" {
			said = kind + ": " + said
		}
		if values != nil {
			said += ": " + strings.Join(values, ", ")
		}
		rows = append(rows, []string{"`" + name + "`", strings.Join(labels, ", "), said})
	}
	if rows == nil {
		return nil, fmt.Errorf("it serves none:\n%s", text)
	}
	return table([]string{"metric", "labels", ""}, rows), nil
}

var (
	metricHead = regexp.MustCompile(`(?m)^# HELP (hubhook_\w+) (.*)\n# TYPE \S+ (\w+)$`)
	labelled   = regexp.MustCompile(`(\w+)="([^"]*)"`)
)

// labelsOf returns the labels of a metric, and the values of the one whose values are words of hubhook's own: a reason or a result.
func labelsOf(text, name string) (labels, values []string) {
	samples := regexp.MustCompile(`(?m)^` + name + `(?:_bucket)?\{(.*?)\}`)
	for _, m := range samples.FindAllStringSubmatch(text, -1) {
		for _, l := range labelled.FindAllStringSubmatch(m[1], -1) {
			label := "`" + l[1] + "`"
			if l[1] != "le" && !slices.Contains(labels, label) {
				labels = append(labels, label)
			}
			if l[1] == "reason" || l[1] == "result" {
				values = append(values, "`"+l[2]+"`")
			}
		}
	}
	return labels, values
}

// scrape starts a server, stores a delivery, and returns what /metrics answers.
func scrape() (text string, err error) {
	dir, err := os.MkdirTemp("", "hubhook-docs-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out, lines := io.Pipe()
	s, err := server.New(server.Config{
		Addr: "127.0.0.1:0", Inspector: "127.0.0.1:0", Data: dir, NoTunnel: true, JSON: true, Output: lines, Errors: io.Discard,
		Getenv: func(string) (string, bool) { return "", false },
	})
	if err != nil {
		return "", err
	}
	s.Handle("inbox", nil)
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	ended := make(chan error, 1)
	go func() {
		defer lines.Close()
		ended <- s.Run(ctx)
	}()
	defer func() {
		stop()
		_, copied := io.Copy(io.Discard, out)
		err = errors.Join(err, <-ended, copied)
	}()
	head, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return "", err
	}
	var ready api.Ready
	if err := json.Unmarshal(head, &ready); err != nil {
		return "", err
	}
	sample, err := payload.Sample(payload.ScopeRepoContent, payload.Update, nil)
	if err != nil {
		return "", err
	}
	if _, err := ask(ctx, http.MethodPost, ready.LocalURL+"/webhooks/inbox", string(sample.Raw())); err != nil {
		return "", err
	}
	base, _, _ := strings.Cut(ready.InspectorURL, "/?")
	return ask(ctx, http.MethodGet, base+"/metrics", "")
}

func ask(ctx context.Context, method, url, body string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, url, answer.Status, text)
	}
	return string(text), err
}
