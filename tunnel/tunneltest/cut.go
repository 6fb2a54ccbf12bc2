package tunneltest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
)

// errCut ends a body that a fault cuts.
var errCut = errors.New("cut by the edge")

// cut ends the public connection without a goodbye of TLS: what was sent so far arrives, and then there is an end too early.
func (w *publicWay) cut() {
	if secured, ok := w.conn.(*tls.Conn); ok {
		secured.NetConn().Close()
		return
	}
	w.conn.Close()
}

// cutRequest is out, or a writer that cuts there what is written to it.
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

// answerCut finds the place in an answer where to cut it.
type answerCut struct {
	edge   *Edge
	left   int64
	head   []byte // the status line and headers as far as they have come
	inBody bool
	spared bool
}

// cutAnswer returns nil where no answer is to be cut.
func (e *Edge) cutAnswer() *answerCut {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.faults.answers.left == 0 {
		return nil
	}
	return &answerCut{edge: e, left: e.faults.answers.after}
}

// passes is how many of the answer's next bytes reach the client. Fewer than all say that the answer is cut.
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

// bodyInHead is what of the bytes so far comes after the headers of the answer.
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

// interim reports whether the head is that of an answer like 100 Continue, which another one follows.
func interim(head []byte) bool {
	status := bytes.TrimPrefix(head, []byte("HTTP/1.1 "))
	return len(status) < len(head) && bytes.HasPrefix(status, []byte("1")) && !bytes.HasPrefix(status, []byte("101"))
}
