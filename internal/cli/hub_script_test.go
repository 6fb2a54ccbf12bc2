package cli_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hubhook/hubhook/hub/hubtest"
)

// hubs are the stand-in Hubs of scripts, which run side by side, by their URLs.
var (
	hubsMu sync.Mutex
	hubs   = map[string]*hubtest.Server{}
)

var webhookID = regexp.MustCompile(`\b[0-9a-f]{24}\b`)

// hold is "hold NAME": set NAME to the first webhook ID that the last program printed.
func hold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hold NAME")
	}
	id := webhookID.FindString(ts.ReadFile("stdout"))
	if id == "" {
		ts.Fatalf("hold %s: no webhook ID was printed", args[0])
	}
	ts.Setenv(args[0], id)
}

// standIn gives a script a stand-in Hub of its own. HF_ENDPOINT and HF_TOKEN name it.
//
//	hub start [echo|keep]    start it: it shows secrets, or keeps one that an update leaves out
//	hub has ID SECRET URL    the webhook has that secret ("" for none) and that URL
//	hub suspend ID           the Hub suspends the webhook
//	hub send ID STATUS       the Hub delivers, and gets that answer; sets DELIVERY
//	hub fails METHOD STATUS TIMES
//	hub requests METHOD TIMES
//	hub login FILE           as hf auth login does
func standIn(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: hub start|has|suspend|send|fails|requests|login")
	}
	if args[0] == "start" {
		options := hubtest.Options{Retry: hubtest.Backoff(time.Second, time.Second, 1)}
		for _, word := range args[1:] {
			options.API.EchoSecret = options.API.EchoSecret || word == "echo"
			options.API.KeepSecret = options.API.KeepSecret || word == "keep"
		}
		h := hubtest.NewServer(options)
		hubsMu.Lock()
		hubs[h.URL] = h
		hubsMu.Unlock()
		ts.Defer(func() { h.Close() })
		ts.Setenv("HF_ENDPOINT", h.URL)
		ts.Setenv("HF_TOKEN", h.Accounts.AddToken(hubtest.Token{}))
		ts.Setenv("HF_TOKEN_READ", h.Accounts.AddToken(hubtest.Token{Role: hubtest.Read}))
		ts.Setenv("HF_TOKEN_OTHER", h.Accounts.AddToken(hubtest.Token{User: "other"}))
		return
	}
	hubsMu.Lock()
	h := hubs[ts.Getenv("HF_ENDPOINT")]
	hubsMu.Unlock()
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		ts.Check(err)
		return n
	}
	switch {
	case args[0] == "has" && len(args) == 4:
		w, err := h.Webhook(args[1])
		ts.Check(err)
		if w.Secret != args[2] || w.URL != args[3] {
			ts.Fatalf("webhook %s has the secret %q and the URL %q", w.ID, w.Secret, w.URL)
		}
	case args[0] == "suspend" && len(args) == 2:
		ts.Check(h.Suspend(args[1]))
	case args[0] == "send" && len(args) == 3:
		endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(number(args[2])) }))
		ts.Defer(endpoint.Close)
		w, err := h.Webhook(args[1])
		ts.Check(err)
		w.URL = endpoint.URL
		ts.Check(h.Update(w))
		delivery, err := h.Send(args[1], []byte("{}"))
		ts.Check(err)
		ctx, cancel := context.WithTimeout(context.Background(), readyTime)
		defer cancel()
		_, err = delivery.Wait(ctx)
		ts.Check(err)
		ts.Setenv("DELIVERY", delivery.ID)
	case args[0] == "fails" && len(args) == 4:
		h.Faults.Inject(hubtest.Fault{Method: args[1], Requests: number(args[3]), Answer: hubtest.Status(number(args[2]))})
	case args[0] == "login" && len(args) == 2:
		ts.Check(os.MkdirAll(filepath.Dir(args[1]), 0o700))
		ts.Check(os.WriteFile(args[1], []byte(h.Accounts.AddToken(hubtest.Token{})+"\n"), 0o600))
	case args[0] == "requests" && len(args) == 3:
		if n := h.Requests.Count(args[1], ""); n != number(args[2]) {
			ts.Fatalf("there were %d %s requests", n, args[1])
		}
	default:
		ts.Fatalf("hub: don't know %s", strings.Join(args, " "))
	}
}
