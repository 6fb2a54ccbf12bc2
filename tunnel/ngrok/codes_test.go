package ngrok

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/hubhook/hubhook/tunnel"
)

// TestCodesAreDocumented has each code of the table on the page that users read, with a row of its own.
func TestCodesAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/tunnels.md")
	if err != nil {
		t.Fatal(err)
	}
	for code, meaning := range meanings {
		if !strings.Contains(string(page), "\n| `"+code+"` |") {
			t.Errorf("docs/tunnels.md has no row for %s (%s)", code, meaning.cause)
		}
		if meaning.cause == "" || meaning.fix == "" || strings.HasSuffix(meaning.cause, ".") || strings.Contains(meaning.fix, "\n") {
			t.Errorf("%s: %+v", code, meaning)
		}
	}
	for _, code := range codesIn(string(page)) {
		if !isKnown(code) {
			t.Errorf("docs/tunnels.md has %s, which is not known here", code)
		}
	}
}

// TestServiceTexts has what the service says, with one code, several or one that is not known here.
func TestServiceTexts(t *testing.T) {
	t.Parallel()
	const secret = "the_secret_token"
	token := credential{secret, "NGROK_AUTHTOKEN"}
	for _, test := range []struct {
		name, text string
		code       string
		cause, fix []string
		temporary  bool
	}{
		{
			name: "one", text: "failed to auth: Your authtoken: " + secret + "\n\nERR_NGROK_107\n",
			code: "ERR_NGROK_107", cause: []string{"from NGROK_AUTHTOKEN is not valid any more"}, fix: []string{tokenPage},
		},
		{
			name: "the same in capitals and in a link", text: "No.\nhttps://ngrok.com/docs/errors/err_ngrok_108\n\nERR_NGROK_108",
			code: "ERR_NGROK_108", cause: []string{"as many agents connected as it may have"}, fix: []string{agentsPage}, temporary: true,
		},
		{
			name: "one that passes before one that does not", text: "Taken. ERR_NGROK_334\nUsed up. ERR_NGROK_725",
			code: "ERR_NGROK_725", cause: []string{"bandwidth of this month", "; also ERR_NGROK_334: the public URL is already online"}, fix: []string{"--public-url"},
		},
		{
			name: "unknown before known", text: "Odd. ERR_NGROK_9999 Taken. err_ngrok_334",
			code: "ERR_NGROK_334", cause: []string{"already online", "also ERR_NGROK_9999: see https://ngrok.com/docs/errors/err_ngrok_9999"}, fix: []string{"stop the other copy"}, temporary: true,
		},
		{
			name: "unknown", text: "The moon is in the wrong house, " + secret + ".\n\nERR_NGROK_9999\n",
			code: "ERR_NGROK_9999", cause: []string{"The moon is in the wrong house, (hidden)."}, fix: []string{"https://ngrok.com/docs/errors/err_ngrok_9999"},
		},
		{
			name: "nothing but unknown codes", text: "ERR_NGROK_9998\nERR_NGROK_9999\nERR_NGROK_9998",
			code: "ERR_NGROK_9998", cause: []string{"the ngrok service refused; also ERR_NGROK_9999"}, fix: []string{"err_ngrok_9998"},
		},
	} {
		e := serviceError(test.text, token, newRedactor(secret))
		if e.Code != test.code || e.Temporary != test.temporary {
			t.Errorf("%s: %#v", test.name, e)
		}
		for _, want := range test.cause {
			if !strings.Contains(e.Cause, want) {
				t.Errorf("%s: cause %q, want %q in it", test.name, e.Cause, want)
			}
		}
		for _, want := range test.fix {
			if !strings.Contains(e.Hint(), want) {
				t.Errorf("%s: fix %q, want %q in it", test.name, e.Fix, want)
			}
		}
		if all := fmt.Sprintf("%v %+v %#v %v", e, e, e, e.Err); strings.Contains(all, secret) || strings.Contains(e.Error(), "\n") {
			t.Errorf("%s: %s", test.name, all)
		}
		if strings.Count(e.Error(), test.code+":") != 1 {
			t.Errorf("%s: the code is not said once: %s", test.name, e)
		}
	}
	for code := range meanings {
		e := serviceError("Text.\n\n"+code+"\n", token, newRedactor(secret))
		if e.Code != code || e.Cause == "" || e.Fix == "" || strings.Contains(e.Cause, "%") || isFinal(code) == e.Temporary {
			t.Errorf("%s: %#v", code, e)
		}
	}
	if e := serviceError("ERR_NGROK_4018", token, redactor{}); !errors.Is(e, tunnel.ErrNoCredential) || e.Source != "" {
		t.Errorf("%#v", e)
	}
}
