package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/freeport"
	"github.com/hubhook/hubhook/payload"
)

// started is an installed program.
type started struct {
	place     *place
	command   []string // calls it
	serve     []string // starts its service; empty is command with "serve"
	variables []string
}

// tryHubhook starts hubhook without a tunnel, waits until it says that it is ready, triggers a delivery as its banner says, and waits until it
// says that the delivery is handled. It returns how long both took, and stops it.
func tryHubhook(ctx context.Context, s *started) (start, delivery time.Duration, err error) {
	serve := s.serve
	if len(serve) == 0 {
		serve = append(append([]string{}, s.command...), "serve", "--no-tunnel")
	}
	// The last one wins.
	variables := append(s.variables, "HUBHOOK_PORT=0", "HUBHOOK_JSON=1", "WEBHOOK_SECRET=first-minute")
	cmd := s.place.command(ctx, serve[0], serve[1:]...)
	cmd.Env = append(cmd.Env, variables...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	lines, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if ended := cmd.Wait(); err == nil && ended != nil {
			err = fmt.Errorf("stop it: %w\n%s", ended, &complaints)
		}
	}()
	said := bufio.NewScanner(lines)
	if err := wait(said, api.LineReady, ""); err != nil {
		return 0, 0, fmt.Errorf("start it: %w\n%s", err, &complaints)
	}
	start = time.Since(began)

	began = time.Now()
	trigger := append(append([]string{}, s.command...), "trigger", "repo.content")
	sent := s.place.command(ctx, trigger[0], trigger[1:]...)
	sent.Env = append(sent.Env, variables...)
	if err := finish(sent); err != nil {
		return 0, 0, fmt.Errorf("trigger a delivery: %w", err)
	}
	if err := wait(said, api.LineAttempt, "done"); err != nil {
		return 0, 0, fmt.Errorf("wait for the delivery: %w\n%s", err, &complaints)
	}
	return start, time.Since(began), nil
}

// wait reads lines until one of this type comes, with this state if it is not "".
func wait(lines *bufio.Scanner, kind, state string) error {
	for lines.Scan() {
		var line struct {
			Type  string `json:"type"`
			State string `json:"state"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("it printed %q: %w", lines.Text(), err)
		}
		if line.Type == kind && (state == "" || line.State == state) {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return fmt.Errorf("it ended without the line %q", kind)
}

func gradioInstall(ctx context.Context, p *place) (*started, error) {
	if err := p.do(ctx, filepath.Join(p.root(), "bin", "pip"), "install", "--no-cache-dir", "huggingface_hub[oauth]", "gradio"); err != nil {
		return nil, err
	}
	size, err := output(ctx, "du", "-sh", p.root())
	if err != nil {
		return nil, err
	}
	p.size, _, _ = strings.Cut(size, "\t")
	p.size += " on disk"
	top, err := output(ctx, "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, err
	}
	return &started{place: p, command: []string{filepath.Join(p.root(), "bin", "python"), filepath.Join(top, "internal/tools/bench/webhooksserver/webhooksserver.py")}}, nil
}

// tryWebhooksServer starts the first example of huggingface_hub's guide without a share link, and posts to it until it answers.
func tryWebhooksServer(ctx context.Context, s *started) (start, delivery time.Duration, err error) {
	address, err := freeport.Address()
	if err != nil {
		return 0, 0, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, 0, err
	}
	cmd := s.place.command(ctx, s.command[0], append(s.command[1:], "127.0.0.1", port, "first-minute")...)
	cmd.Env = append(cmd.Env, "GRADIO_ANALYTICS_ENABLED=False", "HF_HUB_OFFLINE=1")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		cmd.Process.Kill()
		<-ended
	}()
	// Its port is open before its endpoint is there.
	for postDelivery(ctx, port) != nil {
		select {
		case err := <-ended:
			ended <- err
			return 0, 0, fmt.Errorf("start it: %v\n%s", err, &said)
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	start = time.Since(began)
	began = time.Now()
	if err := postDelivery(ctx, port); err != nil {
		return 0, 0, err
	}
	return start, time.Since(began), nil
}

func postDelivery(ctx context.Context, port string) error {
	sample, err := payload.Sample("repo.content", payload.Update, nil)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1:"+port+"/webhooks/inbox", bytes.NewReader(sample.Raw()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Webhook-Secret", "first-minute")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body)
		return fmt.Errorf("post a delivery: %s: %s", answer.Status, text)
	}
	return nil
}
