package cli

import (
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/internal/text"
)

const (
	maxAgentText  = 500     // characters of a name, an error or another single text
	maxAgentCell  = 160     // the same in a list
	maxAgentPiece = 8 << 10 // bytes of a body or of what an attempt printed
)

// eyes make a text of a running hubhook fit for an agent: without secrets, without invisible characters, and not too long.
type eyes struct {
	hide *text.Redactor
	most int // characters of a text that is not a piece
}

// secretVariables may hold secrets that a handler prints.
var secretVariables = []string{"WEBHOOK_SECRET", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "NGROK_AUTHTOKEN", env.Variable("secret"), env.Variable("inspector-token"), env.Variable("database")}

// eyes hides the inspector's token and the secrets in this process's variables. The running hubhook has hidden its webhook secrets already.
func (d *agentDesk) eyes(token string) eyes {
	secrets := []string{token}
	for _, name := range secretVariables {
		value, _ := d.LookupEnv(name)
		for part := range strings.SplitSeq(value, ",") {
			secrets = append(secrets, strings.TrimSpace(part))
		}
		if u, err := url.Parse(value); err == nil {
			password, _ := u.User.Password()
			secrets = append(secrets, password)
		}
	}
	return eyes{text.NewRedactor("[secret]", secrets...), maxAgentText}
}

// hubToken is the form of an access token of the Hub, wherever it came from.
var hubToken = regexp.MustCompile(`\bhf_[A-Za-z0-9]{16,}`)

// whole replaces secrets in s. It writes characters that a person would not see as escapes: hidden text could instruct the agent without
// its user noticing.
func (e eyes) whole(s string) string {
	return text.PrintableLines(hubToken.ReplaceAllString(e.hide.Redact(s), e.hide.Mask()))
}

// cut is whole, and cuts the text after e.most characters.
func (e eyes) cut(s string) string {
	s = e.whole(s)
	if utf8.RuneCountInString(s) > e.most {
		s = string([]rune(s)[:e.most]) + "…"
	}
	return s
}

// piece is a part of a text that may be long.
type piece struct {
	Text   string `json:"text"`
	Offset int    `json:"offset" jsonschema:"where text begins in the whole, in bytes"`
	Size   int    `json:"size" jsonschema:"bytes of the whole; read_delivery_text returns the rest"`
}

// from returns the piece of a text from offset on.
func (e eyes) from(s string, offset int) piece {
	s = e.whole(s)
	begin := runeStart(s, offset)
	return piece{s[begin:runeStart(s, begin+maxAgentPiece)], begin, len(s)}
}

// end returns the last piece of a text.
func (e eyes) end(s string) piece {
	s = e.whole(s)
	begin := runeStart(s, len(s)-maxAgentPiece)
	return piece{s[begin:], begin, len(s)}
}

// runeStart returns the last place at or before at where a character of s begins, or an end of s.
func runeStart(s string, at int) int {
	at = min(max(at, 0), len(s))
	for at > 0 && at < len(s) && !utf8.RuneStart(s[at]) {
		at--
	}
	return at
}

// clean makes every text in v fit for an agent. A piece is already.
func (e eyes) clean(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			e.clean(v.Elem())
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[piece]() {
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				e.clean(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			e.clean(v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(v.MapIndex(key))
			e.clean(value)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		v.SetString(e.cut(v.String()))
	}
}
