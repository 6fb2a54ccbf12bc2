package ngrok

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"

	"github.com/hubhook/hubhook/internal/text"
)

const hidden = "(hidden)"

// echoed finds a token that a message repeats, whatever it is: ngrok's texts of 105 and 107 do.
var echoed = regexp.MustCompile(`(?i)(your authtoken: *)\S+`)

// redactor removes a token from texts.
type redactor struct {
	known *text.Redactor // nil without a token
}

func newRedactor(secrets ...string) redactor { return redactor{text.NewRedactor(hidden, secrets...)} }

func (r redactor) text(s string) string {
	if r.known != nil {
		s = r.known.Redact(s)
	}
	return echoed.ReplaceAllString(s, "${1}"+hidden)
}

// line is text in one line.
func (r redactor) line(s string) string {
	return strings.Join(strings.Fields(r.text(s)), " ")
}

// redactingLog passes records on at debug level without the token. The SDK logs what the service answered, token included, as
// errors; what of it matters to a user reaches them as a State.
type redactingLog struct {
	next slog.Handler
	hide redactor
}

func newSDKLogger(next *slog.Logger, hide redactor) *slog.Logger {
	if next == nil {
		// Without a logger of ours the SDK would take slog.Default.
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(redactingLog{next.Handler(), hide})
}

func (l redactingLog) Enabled(ctx context.Context, _ slog.Level) bool {
	return l.next.Enabled(ctx, slog.LevelDebug)
}

func (l redactingLog) Handle(ctx context.Context, r slog.Record) error {
	record := slog.NewRecord(r.Time, slog.LevelDebug, l.hide.text(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		record.AddAttrs(l.attr(a))
		return true
	})
	return l.next.Handle(ctx, record)
}

func (l redactingLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = l.attr(a)
	}
	return redactingLog{l.next.WithAttrs(clean), l.hide}
}

func (l redactingLog) WithGroup(name string) slog.Handler {
	return redactingLog{l.next.WithGroup(name), l.hide}
}

// attr makes text of everything that could carry a token, so that no later handler can look inside a value again.
func (l redactingLog) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindBool, slog.KindDuration, slog.KindFloat64, slog.KindInt64, slog.KindTime, slog.KindUint64:
		return slog.Attr{Key: a.Key, Value: v}
	case slog.KindGroup:
		group := v.Group()
		clean := make([]slog.Attr, len(group))
		for i, inner := range group {
			clean[i] = l.attr(inner)
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(clean...)}
	case slog.KindString:
		return slog.String(a.Key, l.hide.text(v.String()))
	}
	if bytes, ok := v.Any().([]byte); ok {
		return slog.String(a.Key, l.hide.text(string(bytes)))
	}
	return slog.String(a.Key, l.hide.text(fmt.Sprintf("%+v", v.Any())))
}
