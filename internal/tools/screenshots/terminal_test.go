//go:build unix

package main

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
)

func TestTerminalPicture(t *testing.T) {
	t.Parallel()
	const screen = "Running on local URL:   \x1b[36mhttp://127.0.0.1:40001\x1b[0m\r\n" +
		"\x1b[36;1m--- \x1b[0;22m\x1b[1mapp.py\x1b[22m starts\r\n" +
		"https://" + domain + " is reachable.\r\n" +
		"--> train  \x1b]8;;http://127.0.0.1:40002/?delivery=X\x1b\\01M8EB6AMA000HHAZTSJETR1G8\x1b]8;;\x1b\\\r\n" +
		"<-- train  \x1b[32mdone\x1b[0m in 512.3 ms <&>\r\n"
	for name, width := range terminalWidths {
		picture := svg(terminalLines(screen), width)
		var desc string
		d := xml.NewDecoder(strings.NewReader(picture))
		for {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s is no XML: %v\n%s", name, err, picture)
			}
			if start, ok := token.(xml.StartElement); ok && start.Name.Local == "desc" {
				if err := d.DecodeElement(&desc, &start); err != nil {
					t.Fatal(err)
				}
			}
		}
		for line := range strings.SplitSeq(desc, "\n") {
			if n := len([]rune(line)); n > width {
				t.Errorf("%s has a line of %d characters: %q", name, n, line)
			}
		}
		const want = "$ " + command + "\n" + `Running on local URL:   http://127.0.0.1:7860
https://example.ngrok-free.app is reachable.
--- app.py starts
--> train  01M8DJ804N…
<-- train  done in 500 ms <&>`
		if name == "terminal" && desc != want {
			t.Errorf("%s shows\n%s\nwant\n%s", name, desc, want)
		}
		if !strings.Contains(picture, `class="green">done<`) {
			t.Errorf("%s has no colour:\n%s", name, picture)
		}
	}
}
