package hub

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// maxEvent bounds one server-sent event in bytes. Ten thousand changes have about 3 MB.
const maxEvent = 32 << 20

var errLargeEvent = errors.New("an event of the feed is larger than 32 MiB")

// message is one server-sent event.
type message struct {
	name string
	data []byte
}

// eventReader reads a stream of server-sent events, as the HTML standard describes it. Comments, ids and retry times are skipped.
type eventReader struct {
	lines *bufio.Reader
	begun bool
	// after says that the last line ended with a carriage return. A line feed that comes next belongs to that line end.
	after bool
}

func newEventReader(r io.Reader) *eventReader { return &eventReader{lines: bufio.NewReader(r)} }

// next returns the next event that has data. An event that the end of the stream cut off is dropped.
func (r *eventReader) next() (message, error) {
	var m message
	var data [][]byte
	size := 0
	for {
		line, err := r.line(maxEvent - size)
		if err != nil {
			return message{}, err
		}
		size += len(line)
		if len(line) == 0 {
			if data != nil {
				m.data = bytes.Join(data, []byte("\n"))
				return m, nil
			}
			m, size = message{}, 0
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			m.name = string(value)
		case "data":
			data = append(data, value)
			size++ // count empty lines too, or an endless run of them would fill the memory
		}
	}
}

// line returns the next line without its end, which is a carriage return, a line feed or both.
func (r *eventReader) line(limit int) ([]byte, error) {
	var line []byte
	for {
		c, err := r.lines.ReadByte()
		switch {
		case err != nil:
			return nil, err
		case c == '\n' && r.after:
			r.after = false
		case c == '\n', c == '\r':
			r.after = c == '\r'
			if !r.begun {
				r.begun = true
				line = bytes.TrimPrefix(line, []byte("\ufeff"))
			}
			return line, nil
		case len(line) >= limit:
			return nil, errLargeEvent
		default:
			r.after = false
			line = append(line, c)
		}
	}
}
