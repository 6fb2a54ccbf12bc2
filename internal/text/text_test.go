package text

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
)

const hostile = "\x1b]0;owned\a\u202egnp.exe\u009b31m\xff"

func TestHint(t *testing.T) {
	err := WithHint(fs.ErrPermission, "choose\nanother")
	outer := fmt.Errorf("open: %w", err)
	if have := Hint(outer); have != "choose\nanother" {
		t.Errorf("have the hint %q", have)
	}
	if outer.Error() != "open: "+fs.ErrPermission.Error() || !errors.Is(outer, fs.ErrPermission) {
		t.Errorf("%v is not the error that it wraps", outer)
	}
	if have := Hint(WithHint(outer, "try again")); have != "try again" {
		t.Errorf("the outer hint comes first, have %q", have)
	}
	for _, err := range []error{nil, fs.ErrExist, WithHint(fs.ErrExist, ""), WithHint(nil, "try again")} {
		if have := Hint(err); have != "" {
			t.Errorf("%v has the hint %q", err, have)
		}
	}
	if WithHint(nil, "try again") != nil || WithHint(fs.ErrExist, "") != fs.ErrExist {
		t.Error("without an error or a hint there is nothing to wrap")
	}
}

func TestFileCause(t *testing.T) {
	for _, err := range []error{
		&fs.PathError{Op: "open", Path: "/data", Err: fs.ErrPermission},
		&os.LinkError{Op: "rename", Old: "/data/a", New: "/data/b", Err: fs.ErrPermission},
		fmt.Errorf("keep it: %w", &fs.PathError{Op: "open", Path: "/data", Err: fs.ErrPermission}),
		fs.ErrPermission,
	} {
		if have := FileCause(err); have != fs.ErrPermission {
			t.Errorf("%v: have %v", err, have)
		}
	}
}

func TestRedact(t *testing.T) {
	const secret = `a"b<c /ü`
	inJSON, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	r := NewRedactor("[secret]", "", "stop", "stopmost", "a", secret)
	for text, want := range map[string]string{
		"":                                   "",
		"nothing to hide":                    "nothing to hide",
		"stop, stopmost and stopmoststop":    "[secret], [secret] and [secret][secret]",
		"a banana":                           "a banana", // "a" is too short
		"?secret=" + url.QueryEscape(secret): "?secret=[secret]",
		"/at/" + url.PathEscape(secret):      "/at/[secret]",
		string(inJSON):                       `"[secret]"`,
		strconv.Quote(secret):                `"[secret]"`,
		"it is " + secret + ".":              "it is [secret].",
	} {
		if have := r.Redact(text); have != want {
			t.Errorf("%q: have %q, want %q", text, have, want)
		}
	}
	if have := new(Redactor).Redact("stop"); have != "stop" {
		t.Errorf("without secrets have %q", have)
	}
	if have := NewRedactor("[eves]", "eves").Redact("seveseves"); have != "s[eves][eves]" {
		t.Errorf("a mask is not redacted in turn, have %q", have)
	}
}

func TestMatch(t *testing.T) {
	r := NewRedactor("[secret]", "stop", "stopmost")
	for text, want := range map[string]struct {
		size int
		more bool
	}{
		"s":         {0, true},
		"stop":      {4, true},
		"stopm":     {4, true},
		"stopless":  {4, false},
		"stopmosts": {8, false},
		"x":         {0, false},
	} {
		if size, more := r.Match([]byte(text)); size != want.size || more != want.more {
			t.Errorf("%q: have %d, %v, want %v", text, size, more, want)
		}
	}
	if !r.Starts('s') || r.Starts('o') {
		t.Error("both secrets begin with s")
	}
}

func TestPrintable(t *testing.T) {
	for _, test := range []struct {
		words string
		limit int
		want  string
	}{
		{"", 0, ""},
		{"me/data", 7, "me/data"},
		{"me/data", 3, "me/…"},
		{"über", 4, "über"},
		{"über", 0, "über"},
		{"überall", 4, "über…"},
		{hostile, 0, `\x1b]0;owned\a\u202egnp.exe\u009b31m\xff`},
		{"\x1b]0;", 1, `\x1b…`},
	} {
		if have := Printable(test.words, test.limit); have != test.want {
			t.Errorf("%q, %d: have %q, want %q", test.words, test.limit, have, test.want)
		}
	}
	const plain = "repo.content/update"
	if n := testing.AllocsPerRun(10, func() { Printable(plain, 160) }); n != 0 {
		t.Errorf("plain words cost %v allocations", n)
	}
}

func TestPrintableLines(t *testing.T) {
	if have, want := PrintableLines("one\r\n\ttwo\n"+hostile), "one\n    two\n"+Printable(hostile, 0); have != want {
		t.Errorf("have %q, want %q", have, want)
	}
}

func TestOneLine(t *testing.T) {
	for _, test := range []struct {
		text  string
		limit int
		want  string
	}{
		{"", 5, ""},
		{" \n ", 5, ""},
		{"  one\n\n\ttwo\u00a0", 20, "one two"},
		{"abc", 3, "abc"},
		{"abcd", 3, "abc…"},
		{"ab c", 2, "ab …"},
		{"ab\n", 2, "ab"},
		{"a\x00" + hostile, 100, `a\x00` + Printable(hostile, 0)},
	} {
		if have := OneLine(test.text, test.limit); have != test.want {
			t.Errorf("%q, %d: have %q, want %q", test.text, test.limit, have, test.want)
		}
	}
}

func TestPrintableJSON(t *testing.T) {
	value := "über\u009b31m\u202e\u2028\U000e0001\u007f"
	for _, layOut := range []func(any) ([]byte, error){json.Marshal, func(v any) ([]byte, error) { return json.MarshalIndent(v, "", "  ") }} {
		text, err := layOut(map[string]string{"a": value, "b": "plain"})
		if err != nil {
			t.Fatal(err)
		}
		safe := PrintableJSON(text)
		for _, bad := range []string{"\u009b", "\u202e", "\u2028", "\U000e0001", "\u007f"} {
			if strings.Contains(string(safe), bad) {
				t.Errorf("%q is still in %q", bad, safe)
			}
		}
		if !strings.Contains(string(safe), "über") || strings.Count(string(safe), "\n") != strings.Count(string(text), "\n") {
			t.Errorf("%q lost a letter or a line", safe)
		}
		var same map[string]string
		if err := json.Unmarshal(safe, &same); err != nil || same["a"] != value {
			t.Errorf("%q stands for %q (%v), want %q", safe, same["a"], err, value)
		}
	}
	plain := []byte("{\n  \"a\": 1\n}")
	if have := PrintableJSON(plain); &have[0] != &plain[0] {
		t.Error("plain JSON was copied")
	}
}
