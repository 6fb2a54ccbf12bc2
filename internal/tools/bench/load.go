package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// answerTime is how long one answer may take. After that the run fails.
const answerTime = 20 * time.Second

// A load sends deliveries over keep-alive connections. Client and server share the machine's cores, so the client does as little as it
// can: of an answer it checks only that it is complete and 2xx.
type load struct {
	addr    string // what is dialled, host:port
	request []byte
	id      int            // offset in request of the Webhook-Id's digits
	sent    *atomic.Uint64 // numbers the Webhook-Ids
}

// idDigits are the hexadecimal digits of a Webhook-Id.
const idDigits = 16

// newLoad returns a load of body on one endpoint. host is the Host header. If secret is empty, the load sends none.
func newLoad(addr, host, path, secret string, body []byte) *load {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", path, host, len(body))
	if secret != "" {
		fmt.Fprintf(&b, "X-Webhook-Secret: %s\r\n", secret)
	}
	b.WriteString("Webhook-Id: ")
	id := b.Len()
	fmt.Fprintf(&b, "%0*d\r\n\r\n%s", idDigits, 0, body)
	return &load{addr: addr, request: b.Bytes(), id: id, sent: new(atomic.Uint64)}
}

// A sender is one keep-alive connection.
type sender struct {
	load    *load
	conn    net.Conn
	in      *bufio.Reader
	request []byte
}

// dial opens the connections of one round. When ctx ends it closes them, and their users fail.
func (l *load) dial(ctx context.Context, connections int) ([]*sender, func(), error) {
	var senders []*sender
	closeAll := func() {
		for _, s := range senders {
			s.conn.Close()
		}
	}
	for range connections {
		conn, err := (&net.Dialer{Timeout: answerTime}).DialContext(ctx, "tcp", l.addr)
		if err != nil {
			closeAll()
			return nil, nil, fmt.Errorf("connect to the measured server: %w", err)
		}
		senders = append(senders, &sender{load: l, conn: conn, in: bufio.NewReader(conn), request: slices.Clone(l.request)})
	}
	stop := context.AfterFunc(ctx, closeAll)
	return senders, func() { stop(); closeAll() }, nil
}

// deliver sends one delivery with a Webhook-Id of its own and reads the answer.
func (s *sender) deliver() error {
	var number [idDigits / 2]byte
	n := s.load.sent.Add(1)
	for i := range number {
		number[len(number)-1-i] = byte(n >> (8 * i))
	}
	hex.Encode(s.request[s.load.id:], number[:])
	if _, err := s.conn.Write(s.request); err != nil {
		return fmt.Errorf("send a delivery: %w", err)
	}
	return readAnswer(s.in)
}

// readAnswer reads one answer to its end. Any status but 2xx is an error that shows the beginning of the body.
func readAnswer(in *bufio.Reader) error {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("read an answer: %w", err)
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) || len(line) < len("HTTP/1.1 200\r\n") {
		return fmt.Errorf("read an answer: %q is no status line", line)
	}
	refused := ""
	if line[len("HTTP/1.1 ")] != '2' {
		refused = string(bytes.TrimSpace(line))
	}
	length := -1
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return fmt.Errorf("read an answer's header: %w", err)
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return fmt.Errorf("read an answer's Content-Length: %w", err)
			}
		}
	}
	if length < 0 {
		return errors.New("read an answer: it has no Content-Length")
	}
	if refused == "" {
		_, err = in.Discard(length)
	} else {
		body := make([]byte, min(length, 500))
		if _, err = io.ReadFull(in, body); err == nil {
			return fmt.Errorf("a delivery was refused: %s: %s", refused, strings.TrimSpace(string(body)))
		}
	}
	if err != nil {
		return fmt.Errorf("read an answer's body: %w", err)
	}
	return nil
}

// closedLoop keeps all connections busy for d, each with one delivery after the other. It returns the number of answers, and the time from
// the first delivery to the last answer's end. An answer that is not 2xx is an error.
func (l *load) closedLoop(ctx context.Context, connections int, d time.Duration) (answered int, elapsed time.Duration, err error) {
	senders, hangUp, err := l.dial(ctx, connections)
	if err != nil {
		return 0, 0, err
	}
	defer hangUp()
	counts, errs := make([]int, connections), make([]error, connections)
	begin := time.Now()
	var sending sync.WaitGroup
	for i, s := range senders {
		if err := s.conn.SetDeadline(begin.Add(d + answerTime)); err != nil {
			return 0, 0, err
		}
		sending.Go(func() {
			for errs[i] == nil && time.Since(begin) < d {
				if errs[i] = s.deliver(); errs[i] == nil {
					counts[i]++
				}
			}
		})
	}
	sending.Wait()
	elapsed = time.Since(begin)
	for _, n := range counts {
		answered += n
	}
	return answered, elapsed, errors.Join(ctx.Err(), errors.Join(errs...))
}

// openLoop sends deliveries at times that are fixed beforehand, on average rate a second, bunched like those of independent senders. Each
// delivery uses any free connection. Its latency counts from the time at which it was due, so a stall counts for every delivery that
// waits behind it. The client's timers can be a millisecond late; that counts too.
func (l *load) openLoop(ctx context.Context, connections int, rate float64, d time.Duration) ([]time.Duration, error) {
	due := arrivals(rate, d)
	senders, hangUp, err := l.dial(ctx, connections)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	latencies, errs := make([]time.Duration, len(due)), make([]error, connections)
	next := make(chan int, len(due)) // never full: a delivery waits here for a free connection
	begin := time.Now()
	var sending sync.WaitGroup
	for i, s := range senders {
		if err := s.conn.SetDeadline(begin.Add(d + answerTime)); err != nil {
			return nil, err
		}
		sending.Go(func() {
			for n := range next {
				if errs[i] = s.deliver(); errs[i] != nil {
					return
				}
				latencies[n] = time.Since(begin) - due[n]
			}
		})
	}
	for n, at := range due {
		if wait := at - time.Since(begin); wait > 0 {
			time.Sleep(wait)
		}
		if ctx.Err() != nil {
			break
		}
		next <- n
	}
	close(next)
	sending.Wait()
	return latencies, errors.Join(ctx.Err(), errors.Join(errs...))
}

// arrivals returns the times of a Poisson process of that rate within d. They are the same in each run.
func arrivals(rate float64, d time.Duration) []time.Duration {
	source := rand.New(rand.NewPCG(1, 2))
	var due []time.Duration
	for at := 0.0; ; {
		at += source.ExpFloat64() / rate
		if t := time.Duration(at * float64(time.Second)); t < d {
			due = append(due, t)
		} else {
			return due
		}
	}
}

// percentile returns the value that a share p (0 to 1) of the values does not exceed. It sorts values, which must not be empty.
func percentile[T ~int64 | ~float64](values []T, p float64) T {
	slices.Sort(values)
	return values[min(int(p*float64(len(values))), len(values)-1)]
}
