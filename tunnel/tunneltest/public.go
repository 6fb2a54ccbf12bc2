package tunneltest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxHead bounds the request line and headers of a public request, in bytes.
const maxHead = 1 << 20

// servePublic carries the requests of one public connection, all over one stream, as the real edge does. It passes bytes unchanged, but
// adds the X-Forwarded headers.
func (e *Edge) servePublic(conn net.Conn) {
	in := bufio.NewReaderSize(conn, 32<<10)
	var (
		way    *publicWay
		target *endpoint
		copied sync.WaitGroup
	)
	defer copied.Wait()
	for {
		head, err := readHead(in)
		if err != nil {
			if way == nil {
				return
			}
			// A client that has finished sending may still wait for its answer. If the client has gone away, copying fails.
			if errors.Is(err, io.EOF) {
				way.stream.CloseWrite()
			} else {
				way.stream.Close()
			}
			return
		}
		p := e.lookUp(head.host)
		if p == nil {
			refuse(conn, http.StatusNotFound, "ERR_NGROK_3200", fmt.Sprintf("The endpoint %s is offline.", head.host))
			if way != nil {
				way.stream.Close()
			}
			return
		}
		if way != nil && p != target {
			// The endpoint came back on another session, so the stream to it has ended.
			way.stream.Close()
			refuse(conn, http.StatusBadGateway, "ERR_NGROK_3004", "The connection to the agent was lost.")
			return
		}
		e.mu.Lock()
		latency := e.faults.latency
		e.mu.Unlock()
		if latency > 0 {
			select {
			case <-time.After(latency):
			case <-p.session.gone:
			}
		}
		if way == nil {
			stream, err := p.open(conn.RemoteAddr())
			if err != nil {
				refuse(conn, http.StatusBadGateway, "ERR_NGROK_3004", "The connection to the agent was lost.")
				return
			}
			way, target = &publicWay{edge: e, conn: conn, stream: stream}, p
			copied.Add(1)
			go func() {
				defer copied.Done()
				way.copyBack()
			}()
		}
		way.waiting.Store(true)
		if err := way.send(head.forwarded(conn.RemoteAddr(), p.scheme), head, in); err != nil {
			if errors.Is(err, errCut) {
				way.cut()
			}
			way.stream.Close()
			return
		}
	}
}

// publicWay is a public connection with its stream to the agent.
type publicWay struct {
	edge    *Edge
	conn    net.Conn
	stream  *agentStream
	waiting atomic.Bool // a request was sent and no byte of its answer has come
}

// send passes a request on.
func (w *publicWay) send(head []byte, of requestHead, in *bufio.Reader) error {
	if _, err := w.stream.Write(head); err != nil {
		return err
	}
	switch {
	case of.upgrade:
		_, err := io.Copy(w.stream, in)
		return errors.Join(err, w.stream.CloseWrite())
	case of.chunked:
		return copyChunks(w.edge.cutRequest(w.stream), in)
	case of.length > 0:
		_, err := io.CopyN(w.edge.cutRequest(w.stream), in, of.length)
		return err
	}
	return nil
}

// copyBack passes answers back until the agent's side ends, which also ends the public connection.
func (w *publicWay) copyBack() {
	defer w.conn.Close()
	buf := make([]byte, 32<<10)
	var cut *answerCut // nil if the answer is not to be cut
	for {
		n, err := w.stream.Read(buf)
		if n > 0 {
			if w.waiting.Swap(false) {
				cut = w.edge.cutAnswer()
			}
			if pass := cut.passes(buf[:n]); pass < n {
				w.conn.Write(buf[:pass])
				w.cut()
				w.stream.Close()
				return
			}
			if _, err := w.conn.Write(buf[:n]); err != nil {
				w.stream.Close()
				return
			}
		}
		if err != nil {
			if w.waiting.Load() {
				refuse(w.conn, http.StatusBadGateway, "ERR_NGROK_3004", "The server's answer was not complete.")
			}
			w.stream.Close()
			return
		}
	}
}

// refuse answers in the agent's place, as the service does, and closes the connection.
func refuse(conn net.Conn, status int, code, text string) {
	body := errorBody(code, text)
	fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nNgrok-Error-Code: %s\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), len(body), code, body)
	conn.Close()
}

// requestHead holds the request line and the headers of a request, and the parsed values that the edge needs.
type requestHead struct {
	lines   [][]byte // without line ends
	host    string
	length  int64
	chunked bool
	upgrade bool
}

var errBadHead = errors.New("not an HTTP/1 request")

func readHead(in *bufio.Reader) (requestHead, error) {
	var h requestHead
	size := 0
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			if len(line) > 0 || len(h.lines) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return h, err
		}
		if size += len(line); size > maxHead {
			return h, errBadHead
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			if len(h.lines) == 0 {
				continue // RFC 9112 section 2.2: empty lines before a request are ignored
			}
			return h, nil
		}
		h.lines = append(h.lines, line)
		if len(h.lines) == 1 {
			continue
		}
		name, value, ok := splitHeader(line)
		if !ok {
			return h, errBadHead
		}
		switch {
		case strings.EqualFold(name, "Host"):
			h.host = value
		case strings.EqualFold(name, "Content-Length"):
			if h.length, err = strconv.ParseInt(value, 10, 64); err != nil || h.length < 0 {
				return h, errBadHead
			}
		case strings.EqualFold(name, "Transfer-Encoding"):
			h.chunked = strings.EqualFold(value, "chunked")
		case strings.EqualFold(name, "Upgrade"):
			h.upgrade = true
		}
	}
}

func splitHeader(line []byte) (name, value string, ok bool) {
	n, v, ok := bytes.Cut(line, []byte(":"))
	return string(n), string(bytes.TrimSpace(v)), ok
}

// forwarded returns the head with the service's headers: it appends to X-Forwarded-For and -Proto, and sets -Host.
func (h requestHead) forwarded(client net.Addr, scheme string) []byte {
	from, _, err := net.SplitHostPort(client.String())
	if err != nil {
		from = client.String()
	}
	chain, protos := from, scheme
	var b bytes.Buffer
	for i, line := range h.lines {
		if i > 0 {
			name, value, _ := splitHeader(line)
			switch {
			case strings.EqualFold(name, "X-Forwarded-For"):
				chain = value + ", " + from
				continue
			case strings.EqualFold(name, "X-Forwarded-Proto"):
				protos = value + ", " + scheme
				continue
			case strings.EqualFold(name, "X-Forwarded-Host"):
				continue
			}
		}
		b.Write(line)
		b.WriteString("\r\n")
	}
	fmt.Fprintf(&b, "X-Forwarded-For: %s\r\nX-Forwarded-Host: %s\r\nX-Forwarded-Proto: %s\r\n\r\n", chain, h.host, protos)
	return b.Bytes()
}

// copyChunks passes a chunked body on, trailers included.
func copyChunks(out io.Writer, in *bufio.Reader) error {
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return err
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
		text, _, _ := strings.Cut(strings.TrimSpace(string(line)), ";")
		size, err := strconv.ParseInt(strings.TrimSpace(text), 16, 64)
		if err != nil || size < 0 {
			return fmt.Errorf("chunk size %q", text)
		}
		if size > 0 {
			// The chunk's data and the line end after it.
			if _, err := io.CopyN(out, in, size+2); err != nil {
				return err
			}
			continue
		}
		for {
			line, err := in.ReadBytes('\n')
			if err != nil {
				return err
			}
			if _, err := out.Write(line); err != nil {
				return err
			}
			if len(bytes.TrimSpace(line)) == 0 {
				return nil
			}
		}
	}
}
