package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hubhook/hubhook/payload"
)

type bot struct{}

func (bot) OnPushHTTP(context.Context, *payload.Payload) (any, error) { return nil, nil }
func triggerTraining(context.Context, *payload.Payload) (any, error)  { return nil, nil }
func generic[T any](context.Context, *payload.Payload) (any, error)   { return nil, nil }
func with2Numbers(context.Context, *payload.Payload) (any, error)     { return nil, nil }

var closure = func(context.Context, *payload.Payload) (any, error) { return nil, nil }

func TestAddNamesAnEndpointAfterItsFunction(t *testing.T) {
	for want, h := range map[string]Handler{
		"trigger_training": triggerTraining,
		"on_push_http":     bot{}.OnPushHTTP,
		"generic":          generic[int],
		"with2_numbers":    with2Numbers,
	} {
		if got, ok := functionName(h); got != want || !ok {
			t.Errorf("functionName = %q, %v; want %q", got, ok, want)
		}
	}
	local := func(context.Context, *payload.Payload) (any, error) { return nil, nil }
	for _, h := range []Handler{closure, local} {
		if got, ok := functionName(h); ok {
			t.Errorf("functionName of a closure = %q; want none", got)
		}
	}
}

func TestEndpointName(t *testing.T) {
	for name, want := range map[string]string{
		"train": "train", "/train/": "train", "a/b": "a/b", "A-b_c.d9": "A-b_c.d9",
		"": "", "/": "", "a//b": "", "a b": "", "é": "", "a/..": "", ".": "", "a?b": "",
	} {
		got, err := EndpointName(name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("EndpointName(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestRegisteringBadlyPanicsWithTheName(t *testing.T) {
	s := newServer(t, Config{})
	s.Handle("train", triggerTraining)
	for want, register := range map[string]func(){
		"train":                        func() { s.Handle("/train", triggerTraining) },
		"a b":                          func() { s.Handle("a b", triggerTraining) },
		"use Handle":                   func() { s.Add(closure) },
		"Timeout":                      func() { s.Handle("other", triggerTraining, Timeout(0)) },
		"When: the":                    func() { s.Handle("other", triggerTraining, When(nil)) },
		"WhenBecause":                  func() { s.Handle("other", triggerTraining, WhenBecause(nil)) },
		"WhenChecked":                  func() { s.Handle("other", triggerTraining, WhenChecked(nil)) },
		"SerialBy":                     func() { s.Handle("other", triggerTraining, SerialBy(nil)) },
		"a wait above 0, have -1s":     func() { s.Handle("other", triggerTraining, Debounce(-time.Second, 0, nil)) },
		"other: Debounce: want a wait": func() { s.Handle("other", triggerTraining, Debounce(0, time.Second, nil)) },
		"at least 2s, have 1s":         func() { s.Handle("other", triggerTraining, Debounce(2*time.Second, time.Second, nil)) },
	} {
		func() {
			defer func() {
				if v, _ := recover().(string); !strings.Contains(v, want) {
					t.Errorf("panic %q; want one that contains %q", v, want)
				}
			}()
			register()
		}()
	}
}
