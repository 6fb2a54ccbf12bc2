package store

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
)

// How a stored body is encoded.
const (
	plainBody = 0
	zstdBody  = 1
)

// compressFrom is the size in bytes from which a body may be compressed. Below it, compressing costs more time than the room is
// worth.
const compressFrom = 8 << 10

// MaxBody bounds the bytes that a stored body may unpack to, so that a damaged body cannot take all memory.
const MaxBody = 1 << 30

var zstdEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2),
		zstd.WithWindowSize(512<<10), zstd.WithLowerEncoderMem(true))
})

var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(MaxBody))
})

// PackBody returns what to store for body: itself, or compressed where that saves at least a tenth.
func PackBody(body []byte) (stored []byte, encoding int64) {
	if len(body) < compressFrom {
		return body, plainBody
	}
	enc, err := zstdEncoder()
	if err != nil {
		return body, plainBody
	}
	packed := enc.EncodeAll(body, make([]byte, 0, len(body)/4))
	if len(packed) > len(body)/10*9 {
		return body, plainBody
	}
	return packed, zstdBody
}

// UnpackBody is the inverse of PackBody.
func UnpackBody(stored []byte, encoding int64) ([]byte, error) {
	switch encoding {
	case plainBody:
		return stored, nil
	case zstdBody:
		dec, err := zstdDecoder()
		if err != nil {
			return nil, fmt.Errorf("unpack the body: %w", err)
		}
		body, err := dec.DecodeAll(stored, nil)
		if err != nil {
			return nil, fmt.Errorf("unpack the body: %w", err)
		}
		return body, nil
	}
	return nil, fmt.Errorf("unpack the body: encoding %d is unknown; a later version may have stored it", encoding)
}

// PackHeader encodes h as pairs of length-prefixed strings. JSON would not keep values that are not UTF-8.
func PackHeader(h http.Header) []byte {
	size := 0
	for name, values := range h {
		for _, v := range values {
			size += len(name) + len(v) + 4
		}
	}
	b := make([]byte, 0, size)
	for name, values := range h {
		for _, v := range values {
			b = binary.AppendUvarint(b, uint64(len(name)))
			b = append(b, name...)
			b = binary.AppendUvarint(b, uint64(len(v)))
			b = append(b, v...)
		}
	}
	return b
}

// UnpackHeader is the inverse of PackHeader. It never returns nil without an error.
func UnpackHeader(b []byte) (http.Header, error) {
	h := http.Header{}
	next := func() (string, bool) {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return "", false
		}
		s := string(b[size : size+int(n)])
		b = b[size+int(n):]
		return s, true
	}
	for len(b) > 0 {
		name, ok := next()
		value, ok2 := next()
		if !ok || !ok2 {
			return nil, errors.New("unpack the headers: they are cut short")
		}
		h[name] = append(h[name], value)
	}
	return h, nil
}

// Cut shortens s to at most n bytes, at the end of a character.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// StoredWebhookID returns a Webhook-Id as it is stored. A very long one is cut and ends in a hash of the whole.
func StoredWebhookID(id string) string {
	if len(id) <= MaxName {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	end := "..." + hex.EncodeToString(sum[:])
	return Cut(id, MaxName-len(end)) + end
}
