package inspector

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
)

const (
	maxAnswer = 256 << 20 // of one answer, in bytes; a body of 16 MiB takes up to six times that as JSON
	maxLine   = 8 << 20   // of the stream, in bytes

	answerTimeout = 30 * time.Second
)

// ErrNotRunning says that nothing answers at the address, or that no address is known. Test with errors.Is.
var ErrNotRunning = errors.New("no hubhook is running")

// StatusError is an answer with an error status.
type StatusError struct {
	Status  int    // of HTTP
	Message string // the inspector's error text
}

func (e *StatusError) Error() string { return fmt.Sprintf("%s (status %d)", e.Message, e.Status) }

// Client uses the API of a running inspector. Its methods may be called at the same time. Their error is a *StatusError if the inspector
// refused, and ErrNotRunning if there is no inspector. No error contains the token.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
	err   error // of the address; every method returns it

	silence time.Duration // after so long without a byte a stream counts as dead
}

// NewClient returns a client of the inspector at address, such as http://127.0.0.1:7861. The URL that hubhook prints works too; its
// token counts if token is empty. If the address is wrong, every call fails.
func NewClient(address, token string) *Client {
	c := &Client{
		token: token,
		http: &http.Client{
			// No proxy, because the address is on this machine.
			Transport:     &http.Transport{ResponseHeaderTimeout: answerTimeout, MaxIdleConnsPerHost: 4, IdleConnTimeout: answerTimeout},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		silence: 3 * defaultPace.heartbeat,
	}
	base, err := url.Parse(address)
	switch {
	case err != nil:
		// Leave out the parse error: it repeats the URL with the token.
		c.err = errors.New("the inspector's address is not a URL; want one such as http://127.0.0.1:7861")
	case base.Scheme != "http" && base.Scheme != "https" || base.Host == "":
		c.err = fmt.Errorf("the inspector's address %s is not a URL of http; want one such as http://127.0.0.1:7861", base.Redacted())
	default:
		if c.token == "" {
			c.token = base.Query().Get("token")
		}
		c.base = &url.URL{Scheme: base.Scheme, Host: base.Host}
	}
	return c
}

// Token returns the token that c sends, so that a caller can keep it out of what it shows.
func (c *Client) Token() string { return c.token }

// CloseIdleConnections closes the connections that no call uses. c can be used further.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// ListPage returns the URL of the inspector's page with the deliveries that f picks, to open in a browser. Like Address.Page, the URL
// holds the token.
func (c *Client) ListPage(f queue.Filter) (string, error) { return c.page(values(f)) }

// DeliveryPage returns the URL of the inspector's page on one delivery, as ListPage does.
func (c *Client) DeliveryPage(id string) (string, error) { return c.page(pageOn(id)) }

func (c *Client) page(query url.Values) (string, error) {
	if c.err != nil {
		return "", c.err
	}
	if c.token != "" {
		query.Set("token", c.token)
	}
	return c.base.String() + "/?" + query.Encode(), nil
}

// Pass returns a pass that replaces the token in the page's URL, for one browser and for a minute; see Inspector.Pass.
func (c *Client) Pass(ctx context.Context) (string, error) {
	var pass api.Pass
	err := c.call(ctx, http.MethodPost, "/api/pass", nil, nil, &pass)
	return pass.Pass, err
}

// List returns one page of the deliveries that f picks, newest first. Its Next goes into Filter.Before for the next page.
func (c *Client) List(ctx context.Context, f queue.Filter) (api.List, error) {
	var list api.List
	err := c.call(ctx, http.MethodGet, "/api/deliveries", values(f), nil, &list)
	return list, err
}

// Get returns one delivery with headers, body and attempts.
func (c *Client) Get(ctx context.Context, id string) (api.Record, error) {
	var record api.Record
	err := c.call(ctx, http.MethodGet, deliveryPath(id), nil, nil, &record)
	return record, err
}

// Replay repeats a delivery and returns the new delivery's ID. body is a JSON object that replaces the stored bytes; nil means the same bytes.
func (c *Client) Replay(ctx context.Context, id string, body []byte) (string, error) {
	var request bytes.Buffer
	request.WriteString("{")
	if body != nil {
		// Not json.Marshal: it would compact the bytes.
		request.WriteString(`"body":`)
		request.Write(body)
	}
	request.WriteString("}")
	var accepted api.Answer
	err := c.call(ctx, http.MethodPost, deliveryPath(id)+"/replay", nil, request.Bytes(), &accepted)
	return accepted.Delivery, err
}

// Discard ends an unfinished delivery.
func (c *Client) Discard(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, deliveryPath(id)+"/discard", nil, []byte("{}"), &api.Answer{})
}

// Trigger sends a sample event and returns the delivery's ID.
func (c *Client) Trigger(ctx context.Context, t api.Trigger) (string, error) {
	request, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("encoding the trigger: %w", err)
	}
	var accepted api.Answer
	err = c.call(ctx, http.MethodPost, "/api/trigger", nil, request, &accepted)
	return accepted.Delivery, err
}

// Status returns the status of the running hubhook.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	var status api.Status
	err := c.call(ctx, http.MethodGet, "/api/status", nil, nil, &status)
	return status, err
}

// Rejected returns the newest requests that the running hubhook has refused, newest first.
func (c *Client) Rejected(ctx context.Context) (api.RejectedList, error) {
	var list api.RejectedList
	err := c.call(ctx, http.MethodGet, "/api/rejected", nil, nil, &list)
	return list, err
}

// Tunnel returns the newest changes of the running hubhook's tunnel, newest first.
func (c *Client) Tunnel(ctx context.Context) (api.TunnelChanges, error) {
	var changes api.TunnelChanges
	err := c.call(ctx, http.MethodGet, "/api/tunnel", nil, nil, &changes)
	return changes, err
}

// StreamEvent is one event of a stream.
type StreamEvent struct {
	// Name is delivery, attempt, output, rejected, tunnel, webhook, missed or open. The event open comes once, before all others:
	// from then on the stream reports every loss.
	Name string
	ID   uint64          // one more than the ID of the event before; 0 for open and missed
	Data json.RawMessage // a type of package api: Delivery, AttemptEvent, OutputEvent, Rejected, TunnelChange or Missed; nil for open; of webhook any JSON
}

// Stream calls f for each event, one after the other, until ctx ends, the inspector ends the stream or the connection is
// lost. It always returns an error: context.Cause(ctx) if ctx ended, io.EOF if the inspector ended the stream.
func (c *Client) Stream(ctx context.Context, f func(StreamEvent)) error {
	reading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	response, err := c.send(reading, http.MethodGet, "/api/stream", nil, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	f(StreamEvent{Name: "open"})

	silence := time.AfterFunc(c.silence, func() { stop(fmt.Errorf("the inspector has sent nothing for %v", c.silence)) })
	defer silence.Stop()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxLine)
	var e StreamEvent
	for lines.Scan() {
		silence.Reset(c.silence)
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			e.Name = value
		case "id":
			if e.ID, err = strconv.ParseUint(value, 10, 64); err != nil {
				return fmt.Errorf("reading the stream: its id %q is not a number", value)
			}
		case "data":
			e.Data = json.RawMessage(value)
		case "":
			if lines.Text() == "" && e.Name != "" {
				f(e)
			}
			if lines.Text() == "" {
				e = StreamEvent{}
			}
		}
	}
	if cause := context.Cause(reading); cause != nil {
		if ctx.Err() != nil {
			return cause
		}
		return fmt.Errorf("reading the stream: %w", cause)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading the stream: %w", err)
	}
	return io.EOF
}

// call sends one request and decodes the answer into v.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, body []byte, v any) error {
	response, err := c.send(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("%s %s: reading the answer: %w", method, path, err)
	}
	return nil
}

// send sends one request and returns the answer if it is a success.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Response, error) {
	if c.err != nil {
		return nil, c.err
	}
	target := c.base.String() + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w at %s: nothing listens there", ErrNotRunning, c.base)
	}
	if err != nil {
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err // the caller's message has the URL already
		}
		return nil, fmt.Errorf("asking the inspector at %s: %w", c.base, err)
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer response.Body.Close()
	var refused api.Error
	err = json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&refused)
	if err != nil || refused.Error == "" {
		refused.Error = fmt.Sprintf("%s answered %s, not as an inspector does; is this the inspector's address?", c.base, response.Status)
	}
	return nil, &StatusError{Status: response.StatusCode, Message: refused.Error}
}

func deliveryPath(id string) string { return "/api/deliveries/" + url.PathEscape(id) }
