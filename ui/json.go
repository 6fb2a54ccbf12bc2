package ui

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/text"
)

// line begins an object of --json that has no time of its own.
func (s *Screen) line(kind string) api.Line {
	return api.Line{Type: kind, Time: api.Time{Time: s.now()}}
}

// putJSON prints an object as a line.
func (s *Screen) putJSON(line any, limit int) {
	b, err := marshal(line)
	if err != nil {
		s.Warn(Notice{Text: "printing a line of JSON: " + err.Error()})
		return
	}
	s.out.put(text.PrintableJSON(b), 1, limit)
}

// marshal returns v as one line of JSON, with <, > and & as they are.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	err := out.Encode(v)
	return b.Bytes(), err
}

// tallyJSON adds the number of lines left out to the next object.
func tallyJSON(dst []byte, n int, line []byte) []byte {
	if line == nil {
		return dst
	}
	dst = append(dst, bytes.TrimSuffix(line, []byte("}\n"))...)
	dst = append(dst, `,"left_out":`...)
	return append(strconv.AppendInt(dst, int64(n), 10), "}\n"...)
}
