package tunneltest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
)

// errCut ends a body that a fault cuts.
var errCut = errors.New("cut by the edge")

// cut ends the public connection without TLS's close message: the client gets the bytes so far and then an unexpected end.
func (w *publicWay) cut() {
	if secured, ok := w.conn.(*tls.Conn); ok {
		secured.NetConn().Close()
		return
	}
	w.conn.Close()
}

// cutRequest returns out, or a writer to out that cuts a request's body.
func (e *Edge) cutRequest(out io.Writer) io.Writer {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.faults.requests.left == 0 {
		return out
	}
	return &cutWriter{edge: e, out: out, left: e.faults.requests.after}
}

// cutWriter passes bytes on until it cuts.
type cutWriter struct {
	edge   *Edge
	out    io.Writer
	left   int64
	spared bool // another body was cut instead
}

func (w *cutWriter) Write(b []byte) (int, error) {
	if w.spared || int64(len(b)) <= w.left {
		w.left -= int64(len(b))
		return w.out.Write(b)
	}
	if !w.edge.takeCut(func(f *faults) *cuts { return &f.requests }) {
		w.spared = true
		return w.out.Write(b)
	}
	n, err := w.out.Write(b[:w.left])
	return n, errors.Join(errCut, err)
}

func (e *Edge) takeCut(of func(*faults) *cuts) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return of(&e.faults).take()
}

// answerCut finds the place where an answer is to be cut.
type answerCut struct {
	edge   *Edge
	left   int64
	head   []byte // the status line and headers as far as they have come
	inBody bool
	spared bool
}

// cutAnswer returns nil if no answer is to be cut.
func (e *Edge) cutAnswer() *answerCut {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.faults.answers.left == 0 {
		return nil
	}
	return &answerCut{edge: e, left: e.faults.answers.after}
}

// passes returns how many of the answer's next bytes reach the client. If they are not all, the answer is cut.
func (c *answerCut) passes(b []byte) int {
	if c == nil || c.spared {
		return len(b)
	}
	body := b
	if !c.inBody {
		c.head = append(c.head, b...)
		body = c.bodyInHead()
	}
	if int64(len(body)) <= c.left {
		c.left -= int64(len(body))
		return len(b)
	}
	if !c.edge.takeCut(func(f *faults) *cuts { return &f.answers }) {
		c.spared = true
		return len(b)
	}
	return len(b) - len(body) + int(c.left)
}

// bodyInHead returns the bytes so far that come after the answer's headers.
func (c *answerCut) bodyInHead() []byte {
	for {
		head, rest, complete := bytes.Cut(c.head, []byte("\r\n\r\n"))
		if !complete {
			return nil
		}
		if c.head = rest; interim(head) {
			continue
		}
		c.inBody = true
		return rest
	}
}

// interim reports whether another answer follows this head, as after 100 Continue.
func interim(head []byte) bool {
	status := bytes.TrimPrefix(head, []byte("HTTP/1.1 "))
	return len(status) < len(head) && bytes.HasPrefix(status, []byte("1")) && !bytes.HasPrefix(status, []byte("101"))
}
