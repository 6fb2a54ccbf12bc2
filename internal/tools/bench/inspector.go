package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"time"

	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/internal/testing/browser"
	"github.com/hubhook/hubhook/ui/inspector"
)

const (
	listed   = 10_000 // deliveries that are stored when the inspector's page is opened
	pageRate = 500    // deliveries a second that come while the page shows them
)

// readerConnections are the numbers of senders' connections beside a reader of the inspector's stream.
var readerConnections = []int{16, mostConnections}

// measureInspector measures what the inspector's page costs its browser, and how much a reader of the stream slows deliveries.
func (w *workshop) measureInspector(ctx context.Context) ([]figure, error) {
	figures, err := w.measurePage(ctx)
	if err != nil {
		return nil, err
	}
	read, err := w.measureReader(ctx)
	return append(figures, read...), err
}

// startInspected starts a hubhook with stored deliveries, and returns its inspector's address.
func (w *workshop) startInspected(ctx context.Context, name string, stored int) (*contender, inspector.Address, error) {
	data, err := w.data(name)
	if err != nil {
		return nil, inspector.Address{}, err
	}
	if stored > 0 {
		if err := w.fill(ctx, data, stored); err != nil {
			return nil, inspector.Address{}, fmt.Errorf("store %d deliveries: %w", stored, err)
		}
	}
	c, err := w.startHubhook(ctx, store{data: data})
	if err != nil {
		return nil, inspector.Address{}, err
	}
	address, err := inspector.ReadAddress(data)
	if err != nil {
		return nil, inspector.Address{}, errors.Join(err, c.stop())
	}
	return c, address, nil
}

// measurePage opens the page in Chromium several times, and then shows incoming deliveries on it.
func (w *workshop) measurePage(ctx context.Context) (_ []figure, err error) {
	path, err := exec.LookPath(browser.Program)
	if err != nil {
		w.skip(fmt.Sprintf("The inspector's page is skipped: %v", err))
		return nil, nil
	}
	b, err := browser.Start(ctx, path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	c, address, err := w.startInspected(ctx, "inspector", listed)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()

	var script, seen []float64
	for n := range w.starts {
		w.progress("opening the page: %d of %d", n+1, w.starts)
		scriptTime, firstRow, err := openPage(b, address)
		if err != nil {
			return nil, err
		}
		script, seen = append(script, scriptTime.Seconds()*1000), append(seen, firstRow.Seconds()*1000)
	}
	atMost300 := target{atMost: true, bound: 300, unit: " ms"}
	opened := fmt.Sprintf("with %d stored", listed)
	written := func(ms float64) string { return fmt.Sprintf("%.0f ms", ms) }
	figures := []figure{
		{what: "page " + opened + ", script until its list is there", hubhook: written(median(script)), target: atMost300.String(), short: atMost300.missed(median(script))},
		{what: "first row in sight", hubhook: written(median(seen))},
	}
	still, err := w.watchPage(ctx, b, c, address)
	if err != nil {
		return nil, err
	}
	shown := fmt.Sprintf("page at %d/s, ", pageRate)
	return append(figures,
		figure{what: shown + "its longest task", hubhook: written(still.LongestTask)},
		figure{what: shown + "99 % of its frames after at most", hubhook: written(still.Frame99)},
		figure{what: shown + "the longest time without a frame", hubhook: written(still.LongestFrame)},
		figure{what: shown + "of its time in script", hubhook: fmt.Sprintf("%.0f %%", 100*still.busy)},
	), nil
}

// openPage opens the page in a new browser. It returns how long scripts ran until the list was drawn, and the time from the beginning of
// the navigation until its first row was drawn.
func openPage(b *browser.Browser, address inspector.Address) (script, firstRow time.Duration, err error) {
	p, err := b.NewPage(browser.PageConfig{Script: `new MutationObserver((_, observer) => {
		if (!document.querySelector(".row[data-id]")) return;
		observer.disconnect();
		requestAnimationFrame(() => { window.firstRow = performance.now(); });
	}).observe(document, { childList: true, subtree: true });`})
	if err != nil {
		return 0, 0, err
	}
	defer p.Close()
	if err := p.Open(address.Page()); err != nil {
		return 0, 0, err
	}
	if err := p.Wait("the list's first row", "window.firstRow > 0"); err != nil {
		return 0, 0, err
	}
	var ms float64
	if err := p.Evaluate("window.firstRow", &ms); err != nil {
		return 0, 0, err
	}
	script, err = p.ScriptTime()
	return script, time.Duration(ms * float64(time.Millisecond)), err
}

// stillness holds the times, in milliseconds, in which a page did not respond to its reader.
type stillness struct {
	LongestTask, Frame99, LongestFrame float64
	busy                               float64 // the part of the time that scripts took
}

// watchPage sends deliveries while the page shows them as they come.
func (w *workshop) watchPage(ctx context.Context, b *browser.Browser, c *contender, address inspector.Address) (still stillness, err error) {
	w.progress("showing %d deliveries a second", pageRate)
	p, err := b.NewPage(browser.PageConfig{Patience: answerTime})
	if err != nil {
		return still, err
	}
	defer p.Close()
	if err := p.Open(address.Page()); err != nil {
		return still, err
	}
	if err := p.Wait("the page to be live", `document.querySelector(".row[data-id]") && document.querySelector("header [role=status]").innerText.trim() === "live"`); err != nil {
		return still, err
	}
	err = p.Evaluate(`(() => {
		window.tasks = [0];
		window.frames = [];
		new PerformanceObserver((list) => { for (const e of list.getEntries()) tasks.push(e.duration); }).observe({ type: "longtask" });
		let last = performance.now();
		const frame = () => {
			const now = performance.now();
			frames.push(now - last);
			last = now;
			requestAnimationFrame(frame);
		};
		requestAnimationFrame(frame);
	})()`, nil)
	if err != nil {
		return still, err
	}
	before, err := p.ScriptTime()
	if err != nil {
		return still, err
	}
	begin := time.Now()
	if _, err := c.latencies(ctx, pageRate, w.openLoop); err != nil {
		return still, err
	}
	after, err := p.ScriptTime()
	if err != nil {
		return still, err
	}
	elapsed := time.Since(begin)
	newest, err := inspector.NewClient(address.URL, address.Token).List(ctx, queue.Filter{Limit: 1})
	if err != nil {
		return still, err
	}
	if err := p.Wait("the newest delivery, done", fmt.Sprintf(`document.querySelector('.row[data-id="%s"]')?.dataset.state === "done"`, newest.Deliveries[0].ID)); err != nil {
		return still, err
	}
	err = p.Evaluate(`(() => {
		frames.sort((a, b) => a - b);
		return { LongestTask: Math.max(...tasks), Frame99: frames[Math.floor(frames.length * 0.99)], LongestFrame: frames.at(-1) };
	})()`, &still)
	still.busy = (after - before).Seconds() / elapsed.Seconds()
	return still, err
}

// measureReader compares the deliveries a second of one server while somebody reads the inspector's stream with those while nobody does.
func (w *workshop) measureReader(ctx context.Context) (figures []figure, err error) {
	c, address, err := w.startInspected(ctx, "reader", 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	for _, connections := range readerConnections {
		what := "with a reader of the stream, " + counting(connections, "connection")
		alone := c.gauge(ctx, connections)
		watched := func(d time.Duration) (float64, error) {
			stop, err := read(ctx, address)
			if err != nil {
				return 0, err
			}
			rate, err := alone(d)
			return rate, errors.Join(err, stop())
		}
		measured, err := w.takeTurns(what, watched, alone)
		if err != nil {
			return nil, err
		}
		figures = append(figures, rounds{measured[0], measured[1]}.figure(what, "no reader", atLeast(0.95), perSecond))
	}
	return figures, nil
}

// read reads and discards the stream until stop is called. stop fails if next to nothing came.
func read(ctx context.Context, address inspector.Address) (stop func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.URL+"/api/stream", nil)
	if err != nil {
		cancel()
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+address.Token)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("read the inspector's stream: %w", err)
	}
	ended := make(chan int64, 1)
	go func() {
		defer answer.Body.Close()
		n, _ := io.Copy(io.Discard, answer.Body) // it ends by being cancelled
		ended <- n
	}()
	return func() error {
		cancel()
		if n := <-ended; n < 1000 {
			return fmt.Errorf("the inspector's stream brought %d bytes only", n)
		}
		return nil
	}, nil
}
