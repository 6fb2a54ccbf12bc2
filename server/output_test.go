package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/payload"
	"github.com/hubhook/hubhook/ui/inspector"
)

// newOutput returns the output of an attempt on its own.
func newOutput(secrets ...string) *output {
	return &output{delivery: "D", n: 1, hide: newSecretSet(secrets).hide, printed: func(*output) {}}
}

func TestOutputIsKeptHoweverTheAttemptEnds(t *testing.T) {
	s := newServer(t, Config{Secrets: []string{"s3cret"}})
	print := func(ctx context.Context) {
		fmt.Fprintln(Output(ctx), "one, s3cret")
		inner, cancel := context.WithCancel(ctx) // as a handler passes it on
		defer cancel()
		fmt.Fprintf(Output(inner), "two")
	}
	once := Retry(1, time.Second)
	s.Handle("done", func(ctx context.Context, _ *payload.Payload) (any, error) { print(ctx); return nil, nil }, once)
	s.Handle("failed", func(ctx context.Context, _ *payload.Payload) (any, error) { print(ctx); return nil, errors.New("no") }, once)
	s.Handle("panicked", func(ctx context.Context, _ *payload.Payload) (any, error) { print(ctx); panic("no") }, once)
	s.Handle("timed_out", func(ctx context.Context, _ *payload.Payload) (any, error) {
		print(ctx)
		<-ctx.Done()
		return nil, ctx.Err()
	}, once, Timeout(10*time.Millisecond))
	s.Handle("no_json", func(ctx context.Context, _ *payload.Payload) (any, error) { print(ctx); return func() {}, nil }, once)
	s.Handle("silent", func(ctx context.Context, _ *payload.Payload) (any, error) { Output(ctx); return nil, nil }, once)
	web := serve(t, s)
	for _, name := range []string{"done", "failed", "panicked", "timed_out", "no_json", "silent"} {
		got := post(t, web.URL+"/webhooks/"+name, push, "X-Webhook-Secret", "s3cret")
		r := record(t, s, got.header.Get(deliveryHeader))
		want := "one, [secret]\ntwo"
		if name == "silent" {
			want = ""
		}
		if len(r.AttemptList) != 1 || string(r.AttemptList[0].Output) != want || (r.State == queue.Done) != (name == "done" || name == "silent") {
			t.Errorf("%s: delivery %+v, attempts %+v", name, r.Delivery, r.AttemptList)
		}
	}
}

// Each attempt has an output of its own.
func TestOutputOfEachAttempt(t *testing.T) {
	s := newServer(t, Config{})
	s.Handle("train", func(ctx context.Context, _ *payload.Payload) (any, error) {
		d, _ := DeliveryFrom(ctx)
		fmt.Fprintf(Output(ctx), "attempt %d", d.Attempt)
		if d.Attempt < 3 {
			return nil, errors.New("not yet")
		}
		return nil, nil
	}, Retry(3, time.Millisecond))
	web := serve(t, s)
	id := post(t, web.URL+"/webhooks/train", push).header.Get(deliveryHeader)
	r := until(t, s, id, queue.Done)
	for i, a := range r.AttemptList {
		if want := fmt.Sprintf("attempt %d", i+1); string(a.Output) != want {
			t.Errorf("attempt %d printed %q, want %q", a.N, a.Output, want)
		}
	}
}

func TestOutputOutsideAHandler(t *testing.T) {
	if w := Output(t.Context()); w != io.Discard {
		t.Errorf("Output is %T, want io.Discard", w)
	}
}

func TestOutputIsClosedWhenTheAttemptEnds(t *testing.T) {
	s := newServer(t, Config{})
	contexts := make(chan context.Context, 2)
	writers := make(chan io.Writer, 1)
	s.Handle("leaky", func(ctx context.Context, _ *payload.Payload) (any, error) {
		fmt.Fprint(Output(ctx), "kept")
		writers <- Output(ctx)
		contexts <- ctx
		return nil, nil
	})
	s.Handle("late", func(ctx context.Context, _ *payload.Payload) (any, error) { contexts <- ctx; return nil, nil })
	web := serve(t, s)
	leaky := post(t, web.URL+"/webhooks/leaky", push).header.Get(deliveryHeader)
	if got := post(t, web.URL+"/webhooks/late", push); got.status != 200 {
		t.Fatalf("answer %d %s", got.status, got.body)
	}
	for name, w := range map[string]io.Writer{"of the attempt": <-writers, "asked for again": Output(<-contexts), "first asked for afterwards": Output(<-contexts)} {
		if n, err := io.WriteString(w, "too late"); n != 0 || !errors.Is(err, ErrAttemptEnded) {
			t.Errorf("the output %s took %d bytes, %v; want 0 and ErrAttemptEnded", name, n, err)
		}
	}
	if r := record(t, s, leaky); string(r.AttemptList[0].Output) != "kept" {
		t.Errorf("kept is %q", r.AttemptList[0].Output)
	}
}

// A handler that ends its goroutine prints nothing more either.
func TestOutputIsClosedWhenTheGoroutineEnds(t *testing.T) {
	s := newServer(t, Config{})
	var w io.Writer
	e, err := newEndpoint("gone", func(ctx context.Context, _ *payload.Payload) (any, error) {
		w = Output(ctx)
		runtime.Goexit()
		return nil, nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := payload.Parse([]byte(push))
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { s.attempt(context.Background(), e, &queue.Claim{Attempt: 1, Value: &arrival{payload: p}}) })
	running.Wait()
	if _, err := io.WriteString(w, "too late"); !errors.Is(err, ErrAttemptEnded) {
		t.Errorf("printing afterwards: %v, want ErrAttemptEnded", err)
	}
}

// numbered returns lines of a known length, with characters of several bytes in them.
func numbered(n int) (lines string) {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "line %6d äöü→\U0001F917\n", i)
	}
	return b.String()
}

func TestMuchOutputKeepsItsBeginningAndItsEnd(t *testing.T) {
	all := numbered(50_000)
	for _, size := range []int{1, 7, 100, outputHead - 1, outputTail, 3 * outputTail, len(all)} {
		o := newOutput("s3cret")
		for rest := all; rest != ""; rest = rest[min(size, len(rest)):] {
			if _, err := io.WriteString(o, rest[:min(size, len(rest))]); err != nil {
				t.Fatal(err)
			}
			if memory := cap(o.head) + cap(o.tail) + cap(o.pending); memory > 8*(outputHead+outputTail) && size < outputTail {
				t.Fatalf("%d bytes are held", memory)
			}
		}
		text := string(o.close())
		var left int
		head, rest, _ := strings.Cut(text, "\n[... ")
		if _, err := fmt.Sscanf(rest, "%d bytes left out ...]", &left); err != nil {
			t.Fatalf("written by %d bytes: %v in %.100q", size, err, rest)
		}
		_, tail, _ := strings.Cut(rest, "...]\n")
		if !strings.HasPrefix(all, head) || !strings.HasSuffix(all, tail) || len(head)+left+len(tail) != len(all) || !utf8.ValidString(text) {
			t.Errorf("written by %d bytes: %d bytes of the beginning, %d left out and %d of the end are not the %d that were printed", size, len(head), left, len(tail), len(all))
		}
		if len(head) > outputHead || len(head) < outputHead-utf8.UTFMax || len(tail) > outputTail || len(tail) < outputTail-utf8.UTFMax {
			t.Errorf("written by %d bytes: %d bytes of the beginning and %d of the end are kept, want %d and %d", size, len(head), len(tail), outputHead, outputTail)
		}
	}
	o := newOutput("s3cret")
	io.WriteString(o, all)
	at, jumps := 0, 0
	for piece, ok := o.Next(1000); ok; piece, ok = o.Next(1000) {
		if piece.Offset != int64(at) {
			at, jumps = int(piece.Offset), jumps+1
		}
		if !strings.HasPrefix(all[at:], piece.Text) || piece.Delivery != "D" || piece.N != 1 {
			t.Fatalf("the piece at %d is not what was printed there: %+v", at, piece)
		}
		at += len(piece.Text)
	}
	if at != len(all) || jumps != 1 {
		t.Errorf("what was printed too fast is told up to %d of %d, with %d jumps", at, len(all), jumps)
	}
	o = newOutput("s3cret")
	whole := strings.ToValidUTF8(all[:outputHead+outputTail-100], "")
	io.WriteString(o, whole)
	if got := string(o.close()); got != whole {
		t.Errorf("%d bytes that fit are not kept as they are: %d", len(whole), len(got))
	}
}

func TestNoSecretIsPrinted(t *testing.T) {
	const secret, longer, other = "hf_abc", "hf_abcdef/+", "_abX"
	text := "a hf_abc b hf_abcdef/+ c hf_abcdef%2F%2B d hf_abcde hf_ab hf_abX ä hf_hf_abc " + strings.Repeat("hf_abc", 3) + " \xffhf_abc\xc3 end hf_abc"
	want := "a [secret] b [secret] c [secret] d [secret]de hf_ab hf[secret] ä hf_[secret] " + strings.Repeat("[secret]", 3) + " \ufffd[secret]\ufffd end [secret]"
	for size := 1; size <= len(text); size++ {
		o := newOutput(secret, longer, other)
		for rest := text; rest != ""; rest = rest[min(size, len(rest)):] {
			io.WriteString(o, rest[:min(size, len(rest))])
			for _, s := range []string{secret, longer} {
				if live, _ := o.soFar(); strings.Contains(live, s) {
					t.Fatalf("by %d bytes: %q shows a secret while it is printed", size, live)
				}
			}
		}
		if got := string(o.close()); got != want {
			t.Errorf("by %d bytes:\n have %q\n want %q", size, got, want)
		}
	}
}

func FuzzOutput(f *testing.F) {
	f.Add([]byte("hello hf_secret\n"), uint8(3))
	f.Add([]byte("hf_sechf_secret%2F\xff\xf0\x9f\xa4"), uint8(1))
	f.Add([]byte(strings.Repeat("ä", outputHead)), uint8(255))
	f.Add([]byte(strings.Repeat("\U0001F917 hf_secret/", outputTail/4)), uint8(100))
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		step := max(1, int(size))
		pieces, once := newOutput("hf_secret", "hf_secret/"), newOutput("hf_secret", "hf_secret/")
		var told []byte
		for rest := text; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			pieces.Write(rest[:min(step, len(rest))])
			for piece, ok := pieces.Next(100); ok; piece, ok = pieces.Next(100) {
				if piece.Offset != int64(len(told)) || !utf8.ValidString(piece.Text) || len(piece.Text) > 100 {
					t.Fatalf("piece at %d after %d bytes: %q", piece.Offset, len(told), piece.Text)
				}
				told = append(told, piece.Text...)
			}
		}
		once.Write(text)
		got, want := pieces.close(), once.close()
		if !bytes.Equal(got, want) {
			t.Errorf("in pieces it is %q, at once %q", got, want)
		}
		if bytes.Contains(got, []byte("hf_secret")) || bytes.Contains(told, []byte("hf_secret")) {
			t.Errorf("a secret is in %q or in %q", got, told)
		}
		if !utf8.Valid(got) || len(got) > outputHead+outputTail+100 {
			t.Errorf("%d bytes are kept", len(got))
		}
		piece, _ := pieces.Next(len(text) * 3)
		if told = append(told, piece.Text...); int64(len(told)) != pieces.total {
			t.Errorf("%d bytes of %d were told", len(told), pieces.total)
		}
	})
}

func TestOutputOfSeveralGoroutines(t *testing.T) {
	s := newServer(t, Config{})
	s.Handle("busy", func(ctx context.Context, _ *payload.Payload) (any, error) {
		var printing sync.WaitGroup
		for range 8 {
			printing.Go(func() {
				for range 100 {
					fmt.Fprintln(Output(ctx), "a whole line")
				}
			})
		}
		printing.Wait()
		return nil, nil
	})
	web := serve(t, s)
	r := record(t, s, post(t, web.URL+"/webhooks/busy", push).header.Get(deliveryHeader))
	if got := string(r.AttemptList[0].Output); got != strings.Repeat("a whole line\n", 800) {
		t.Errorf("%d bytes are kept, or lines are torn", len(got))
	}
}

// What an attempt prints is shown while it runs, in the stream and to whoever asks.
func TestOutputIsShownWhileTheAttemptRuns(t *testing.T) {
	c := runConfig(t)
	c.Data, c.Secrets = t.TempDir(), []string{"s3cret"}
	s := newServer(t, c)
	more := make(chan string)
	s.Handle("train", func(ctx context.Context, _ *payload.Payload) (any, error) {
		for text := range more {
			if _, err := io.WriteString(Output(ctx), text); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	r := start(t, s)
	r.wait(t, "ready", nil)
	address, err := inspector.ReadAddress(c.Data)
	if err != nil {
		t.Fatal(err)
	}
	client := inspector.NewClient(address.URL, address.Token)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	events := make(chan inspector.StreamEvent, 1000)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	reading.Go(func() {
		defer close(events)
		client.Stream(ctx, func(e inspector.StreamEvent) { events <- e })
	})
	if e := <-events; e.Name != "open" {
		t.Fatalf("the stream begins with %s", e.Name)
	}
	id, err := client.Trigger(ctx, api.Trigger{Scope: "repo.content"})
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	ended := false
	until := func(text string) {
		t.Helper()
		for e := range events {
			switch e.Name {
			case "output":
				var piece api.OutputEvent
				if err := json.Unmarshal(e.Data, &piece); err != nil || piece.Delivery != id || piece.N != 1 || piece.Offset != int64(told.Len()) || ended {
					t.Fatalf("%v: after %d bytes, the end told %v: %s", err, told.Len(), ended, e.Data)
				}
				told.WriteString(piece.Text)
			case "attempt":
				ended = !strings.Contains(string(e.Data), `"duration_ms":null`)
			}
			if told.String() == text && (ended || !strings.HasSuffix(text, "the end")) {
				return
			}
		}
		t.Fatalf("the stream ended with %q told, want %q", told.String(), text)
	}
	shown := func(ended bool, want string, total int64) {
		t.Helper()
		record, err := client.Get(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if a := record.AttemptList[0]; (a.DurationMS != nil) != ended || a.Output != want || a.OutputBytes != total {
			t.Errorf("attempt %+v, want %q and %d bytes", a, want, total)
		}
	}
	more <- "epoch 1 ä\n"
	until("epoch 1 ä\n")
	shown(false, "epoch 1 ä\n", 11)
	more <- "epoch 2 s3c"
	more <- "ret\n"
	until("epoch 1 ä\nepoch 2 [secret]\n")
	shown(false, "epoch 1 ä\nepoch 2 [secret]\n", 28)
	more <- "the end"
	close(more)
	until("epoch 1 ä\nepoch 2 [secret]\nthe end")
	shown(true, "epoch 1 ä\nepoch 2 [secret]\nthe end", 0)
}

// Outputs of attempts that have ended are kept until they are stored, not for ever.
func TestEndedOutputsAreForgotten(t *testing.T) {
	s := newServer(t, Config{})
	s.Handle("train", func(ctx context.Context, _ *payload.Payload) (any, error) {
		fmt.Fprint(Output(ctx), "x")
		return nil, nil
	})
	web := serve(t, s)
	for range 3 * endedOutputs {
		post(t, web.URL+"/webhooks/train", push)
	}
	s.outputs.mu.Lock()
	defer s.outputs.mu.Unlock()
	if found, late := len(s.outputs.byKey), len(s.outputs.late); found != endedOutputs || late != endedOutputs {
		t.Errorf("%d outputs are found, %d kept, want %d", found, late, endedOutputs)
	}
}

// Most handlers print nothing, and what they don't use they don't pay for.
func TestAnAttemptThatPrintsNothingHasNoOutput(t *testing.T) {
	s := newServer(t, Config{})
	e, err := newEndpoint("quiet", func(context.Context, *payload.Payload) (any, error) { return nil, nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := payload.Parse([]byte(push))
	if err != nil {
		t.Fatal(err)
	}
	claim := &queue.Claim{Delivery: queue.Delivery{ID: "D"}, Attempt: 1, Value: &arrival{payload: p}}
	bare := testing.AllocsPerRun(100, func() {
		ctx, cancel := context.WithTimeoutCause(context.WithValue(context.Background(), workKey{}, claim), e.timeout, errTimeout)
		runHandler(ctx, e, p)
		cancel()
	})
	whole := testing.AllocsPerRun(100, func() { s.attempt(context.Background(), e, claim) })
	if whole > bare {
		t.Errorf("an attempt makes %v allocations, want the %v of its context alone", whole, bare)
	}
	if len(s.outputs.byKey) != 0 {
		t.Errorf("%d outputs were made", len(s.outputs.byKey))
	}
}

// BenchmarkAttempt measures an attempt on its own: what an output costs those that print, and those that don't.
func BenchmarkAttempt(b *testing.B) {
	line := []byte("epoch 3 of 10, loss 0.1234, 1234 samples a second\n")
	for _, test := range []struct {
		name  string
		lines int
	}{{"silent", 0}, {"one line", 1}, {"100 lines", 100}} {
		b.Run(test.name, func(b *testing.B) {
			s, err := New(Config{Secrets: []string{"a-secret-of-usual-length-0123456789"}, Output: io.Discard, Getenv: variables(nil)})
			if err != nil {
				b.Fatal(err)
			}
			e, err := newEndpoint("train", func(ctx context.Context, _ *payload.Payload) (any, error) {
				for range test.lines {
					if _, err := Output(ctx).Write(line); err != nil {
						return nil, err
					}
				}
				return nil, nil
			}, nil)
			if err != nil {
				b.Fatal(err)
			}
			p, err := payload.Parse([]byte(push))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				claim := queue.Claim{Delivery: queue.Delivery{ID: "D"}, Attempt: 1, Value: &arrival{payload: p}}
				if out := s.attempt(context.Background(), e, &claim); out.Error != "" {
					b.Fatal(out.Error)
				}
			}
		})
	}
}
