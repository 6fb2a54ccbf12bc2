package payload

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// kind is the kind of a JSON value, named by how it begins.
type kind byte

const (
	missing    kind = 0
	isNull     kind = 'n'
	isTrue     kind = 't'
	isFalse    kind = 'f'
	isString   kind = '"'
	isNumber   kind = '0'
	isObject   kind = '{'
	isArray    kind = '['
	notAKind   kind = '?'
	endOfInput byte = 0
)

func (k kind) String() string {
	switch k {
	case missing:
		return "nothing"
	case isNull:
		return "null"
	case isTrue, isFalse:
		return "a boolean"
	case isString:
		return "a string"
	case isNumber:
		return "a number"
	case isObject:
		return "an object"
	case isArray:
		return "an array"
	}
	return "no JSON value"
}

// kindOf tells the kind of a value from its first byte.
func kindOf(c byte) kind {
	switch c {
	case '"', '{', '[', 't', 'f', 'n':
		return kind(c)
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return isNumber
	}
	return notAKind
}

// scanner reads JSON from b once, front to back, and checks the syntax of all of it.
// After the first error it moves to the end of b, where every method returns at once.
// So a caller need not check for an error after each step.
//
// b must be valid UTF-8. The scanner takes everything that RFC 8259 allows: any depth
// of nesting, numbers of any size, any escape, duplicate names.
type scanner struct {
	b   []byte
	pos int
	err *SyntaxError
	// key is the name of the member that object or member read last.
	key     []byte
	scratch []byte          // the memory for a name or string with its escapes resolved
	text    strings.Builder // the memory that the strings of keep share
}

// fail records an error, if it is the first, and ends the reading.
func (s *scanner) fail(pos int, reason string) {
	if s.err == nil {
		s.err = syntaxError(s.b, pos, reason)
		s.pos = len(s.b)
	}
}

// failHere is fail for a character at pos that is not the wanted one.
func (s *scanner) failHere(want string) {
	if s.err != nil {
		return
	}
	have := "the end"
	if s.pos < len(s.b) {
		r, _ := utf8.DecodeRune(s.b[s.pos:])
		have = strconv.QuoteRune(r)
	}
	s.fail(s.pos, "want "+want+", have "+have)
}

func syntaxError(b []byte, pos int, reason string) *SyntaxError {
	before := b[:pos]
	return &SyntaxError{
		Offset: pos,
		Line:   1 + bytes.Count(before, []byte{'\n'}),
		Column: 1 + utf8.RuneCount(before[1+bytes.LastIndexByte(before, '\n'):]),
		Reason: reason,
	}
}

// peek skips space and returns the byte after it, or endOfInput.
func (s *scanner) peek() byte {
	for s.pos < len(s.b) {
		switch c := s.b[s.pos]; c {
		case ' ', '\n', '\t', '\r':
			s.pos++
		default:
			return c
		}
	}
	return endOfInput
}

// value skips space and returns the kind of the value after it.
func (s *scanner) value() kind {
	k := kindOf(s.peek())
	if k == notAKind {
		s.failHere("a value")
	}
	return k
}

// object reads the next object up to the value of its first member. It returns false
// if the object is empty. It skips a value of another kind and returns false.
//
//	for ok := s.object(); ok; ok = s.member() {
//		switch string(s.key) { ... } // each case reads the value
//	}
func (s *scanner) object() bool {
	if s.peek() != '{' {
		s.skip()
		return false
	}
	s.pos++
	if s.peek() == '}' {
		s.pos++
		return false
	}
	return s.name("a name in quotes or }")
}

// member reads up to the value of the next member. At the end of the object it
// returns false.
func (s *scanner) member() bool {
	switch s.peek() {
	case ',':
		s.pos++
		return s.name("a name in quotes")
	case '}':
		s.pos++
		return false
	}
	s.failHere(", or }")
	return false
}

// name reads a member's name and the colon after it.
func (s *scanner) name(want string) bool {
	if s.peek() != '"' {
		s.failHere(want)
		return false
	}
	key, escaped := s.literal()
	if escaped {
		s.scratch = appendUnescaped(s.scratch[:0], key)
		key = s.scratch
	}
	s.key = key
	if s.peek() != ':' {
		s.failHere(":")
		return false
	}
	s.pos++
	return true
}

// array reads the next array up to its first element; element goes on from there. It
// returns false if the array is empty. It skips a value of another kind and returns
// false.
func (s *scanner) array() bool {
	if s.peek() != '[' {
		s.skip()
		return false
	}
	s.pos++
	if s.peek() == ']' {
		s.pos++
		return false
	}
	return s.err == nil
}

// element reads up to the next element. At the end of the array it returns false.
func (s *scanner) element() bool {
	switch s.peek() {
	case ',':
		s.pos++
		return true
	case ']':
		s.pos++
		return false
	}
	s.failHere(", or ]")
	return false
}

// string reads a string. It skips another value and returns "".
func (s *scanner) string() string {
	if s.peek() != '"' {
		s.skip()
		return ""
	}
	return s.keep(s.literal())
}

// bool reads a boolean. It skips another value and returns false.
func (s *scanner) bool() bool {
	k := s.value()
	if k == isTrue || k == isFalse {
		s.scalar(k)
	} else {
		s.skip()
	}
	return k == isTrue
}

// int reads an integer. It skips another value and returns 0, also for a number with
// a fraction or an exponent, or beyond 64 bits.
func (s *scanner) int() int64 {
	if s.value() != isNumber {
		s.skip()
		return 0
	}
	start := s.pos
	s.number()
	if s.err != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(s.b[start:s.pos]), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// raw skips a value and returns its bytes, a part of b.
func (s *scanner) raw() []byte {
	s.peek()
	start := s.pos
	s.skip()
	return s.b[start:s.pos:s.pos]
}

// skip reads a value of any kind. It is not recursive: a level of nesting costs one
// byte, and no stack.
func (s *scanner) skip() {
	var room [64]byte
	closers := room[:0]
	for s.err == nil {
		switch k := s.value(); k {
		case isObject:
			s.pos++
			if s.peek() != '}' {
				closers = append(closers, '}')
				s.name("a name in quotes or }")
				continue
			}
			s.pos++
		case isArray:
			s.pos++
			if s.peek() != ']' {
				closers = append(closers, ']')
				continue
			}
			s.pos++
		default:
			s.scalar(k)
		}
		for len(closers) > 0 {
			closer := closers[len(closers)-1]
			c := s.peek()
			if c == closer {
				s.pos++
				closers = closers[:len(closers)-1]
				continue
			}
			if c != ',' {
				s.failHere(", or " + string(closer))
				return
			}
			s.pos++
			if closer == '}' {
				s.name("a name in quotes")
			}
			break
		}
		if len(closers) == 0 {
			return
		}
	}
}

func (s *scanner) scalar(k kind) {
	switch k {
	case isString:
		s.literal()
	case isNumber:
		s.number()
	case isNull:
		s.word("null")
	case isTrue:
		s.word("true")
	case isFalse:
		s.word("false")
	}
}

func (s *scanner) word(w string) {
	if !bytes.HasPrefix(s.b[s.pos:], []byte(w)) {
		s.fail(s.pos, "want "+w+", have another word")
		return
	}
	s.pos += len(w)
}

// number reads a number. It does not look at what follows: it reads the 0 of 01, and
// its caller refuses the 1.
func (s *scanner) number() {
	if s.b[s.pos] == '-' {
		s.pos++
	}
	if s.pos < len(s.b) && s.b[s.pos] == '0' {
		s.pos++
	} else if !s.digits() {
		return
	}
	if s.pos < len(s.b) && s.b[s.pos] == '.' {
		s.pos++
		if !s.digits() {
			return
		}
	}
	if s.pos < len(s.b) && s.b[s.pos]|0x20 == 'e' {
		s.pos++
		if s.pos < len(s.b) && (s.b[s.pos] == '+' || s.b[s.pos] == '-') {
			s.pos++
		}
		s.digits()
	}
}

// digits reads one digit or more.
func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.b) && '0' <= s.b[s.pos] && s.b[s.pos] <= '9' {
		s.pos++
	}
	if s.pos == start {
		s.failHere("a digit")
		return false
	}
	return true
}

// literal reads the string whose first quote is at pos. It returns the bytes between
// the quotes, and whether escapes are among them.
func (s *scanner) literal() (content []byte, escaped bool) {
	start := s.pos + 1
	for i := start; ; {
		i = indexSpecial(s.b, i)
		if i == len(s.b) {
			s.fail(s.pos, "the string that begins here has no end")
			return nil, false
		}
		switch c := s.b[i]; c {
		case '"':
			s.pos = i + 1
			return s.b[start:i], escaped
		case '\\':
			n := escapeLen(s.b[i:])
			if n == 0 {
				s.fail(i, `no such escape: want one of \" \\ \/ \b \f \n \r \t or \u and four hexadecimal digits`)
				return nil, false
			}
			i += n
			escaped = true
		default:
			s.fail(i, fmt.Sprintf(`control character in a string: want it escaped, as \u%04x`, c))
			return nil, false
		}
	}
}

// indexSpecial returns the place, at i or after it, of the first quote, backslash
// or control character in b, or len(b).
func indexSpecial(b []byte, i int) int {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	// This looks at eight bytes at a time. A subtraction that borrows can mark a
	// byte wrongly, but only above one that is marked rightly: the lowest mark is
	// always right.
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		marks := ((w-ones*0x20)&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs
		if marks != 0 {
			return i + bits.TrailingZeros64(marks)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < 0x20 || c == '"' || c == '\\' {
			return i
		}
	}
	return i
}

// escapeLen returns the length of the escape at the start of b, 0 if it is invalid.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b[2:]); ok {
			return 6
		}
	}
	return 0
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// appendUnescaped appends a string's content with its escapes resolved. literal has
// checked the content. Half of a surrogate pair becomes U+FFFD: JavaScript can send
// a half when it cuts a text, but UTF-8 has no form for it.
func appendUnescaped(dst, s []byte) []byte {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(dst, s...)
		}
		dst = append(dst, s[:i]...)
		c := s[i+1]
		s = s[i+2:]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, _ := hex4(s)
			s = s[4:]
			if utf16.IsSurrogate(r) {
				var low rune
				if bytes.HasPrefix(s, []byte(`\u`)) {
					low, _ = hex4(s[2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					s = s[6:]
				}
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
	}
}

// maxChunk limits the memory, in bytes, that several strings share. A program that
// keeps one of them keeps the whole chunk in memory.
const maxChunk = 16 << 10

// keep returns content as a string. The strings of a payload share chunks of memory,
// so that most payloads need one allocation for all of them. They do not share b.
func (s *scanner) keep(content []byte, escaped bool) string {
	if len(content) == 0 {
		return ""
	}
	if s.text.Cap()-s.text.Len() < len(content) {
		s.text = strings.Builder{}
		s.text.Grow(max(len(content), min(maxChunk, len(content)+len(s.b)-s.pos)))
	}
	start := s.text.Len()
	if escaped {
		s.scratch = appendUnescaped(s.scratch[:0], content)
		content = s.scratch // never longer
	}
	s.text.Write(content)
	return s.text.String()[start:]
}
