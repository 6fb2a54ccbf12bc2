//go:build unix

package main

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// terminalWidths are how many characters a line of a picture of the terminal has, by the picture's name. The second one is for phones.
var terminalWidths = map[string]int{"terminal": 84, "terminal-narrow": 44}

// drawTerminal writes the pictures of a terminal that got this text.
func drawTerminal(dir, screen string) error {
	lines := terminalLines(screen)
	for name, width := range terminalWidths {
		path := filepath.Join(dir, name+".svg")
		picture := svg(lines, width)
		if err := os.WriteFile(path, []byte(picture), 0o644); err != nil {
			return err
		}
		if _, err := fmt.Println(path, len(picture)>>10, "KiB"); err != nil {
			return err
		}
	}
	return nil
}

// span is a part of a line in one style.
type span struct{ style, text string }

var (
	colour    = regexp.MustCompile(`\x1b\[([0-9;]*)m`)
	escape    = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)`)
	hyperlink = regexp.MustCompile(`\x1b\]8;[^\x07\x1b]*(?:\x07|\x1b\\)`)
)

// plainText is what a terminal shows, without colours and links.
func plainText(s string) string { return strings.ReplaceAll(escape.ReplaceAllString(s, ""), "\r", "") }

// sameEachTime replaces what differs from run to run. The picture changes only if hubhook's output does.
var sameEachTime = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`01[0-9A-HJKMNP-TV-Z]{24}`), "01M8DJ804N…"},
	{regexp.MustCompile(`token=[0-9a-f]+(\.\.\.)?`), "token=2a35c991..."},
	{regexp.MustCompile(`(local URL:[^\n]*127\.0\.0\.1):\d+`), "$1:7860"},
	{regexp.MustCompile(`(Inspector:[^\n]*127\.0\.0\.1):\d+`), "$1:7861"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d{5}`), "http://127.0.0.1:40123"},
	{regexp.MustCompile(`\bin (?:\x1b\[[0-9;]*m)*[0-9.]+ ?(?:ms|s)\b`), "in 500 ms"},
	{regexp.MustCompile(regexp.QuoteMeta(domain)), "example.ngrok-free.app"},
}

// terminalLines are the lines of the picture, with the command that was typed first.
func terminalLines(screen string) [][]span {
	screen = hyperlink.ReplaceAllString(strings.ReplaceAll(screen, "\r", ""), "")
	for _, m := range sameEachTime {
		screen = m.re.ReplaceAllString(screen, m.with)
	}
	screen = checkedFirst(screen)
	lines := [][]span{{{"dim", "$ "}, {"bold", command}}}
	style := ""
	for line := range strings.SplitSeq(strings.TrimRight(screen, "\n"), "\n") {
		var runs []span
		for line != "" {
			at := colour.FindStringSubmatchIndex(line)
			text := line
			if at != nil {
				text = line[:at[0]]
			}
			if text = escape.ReplaceAllString(text, ""); text != "" {
				runs = append(runs, span{style, text})
			}
			if at == nil {
				break
			}
			style = styled(style, line[at[2]:at[3]])
			line = line[at[1]:]
		}
		lines = append(lines, runs)
	}
	return lines
}

// checkedFirst moves the line about the public URL before those about the program: the check and the program's start run beside each other.
func checkedFirst(screen string) string {
	line := regexp.MustCompile(`(?m)^[^\n]* is reachable\.[^\n]*\n`).FindString(screen)
	before, after, found := strings.Cut(strings.Replace(screen, line, "", 1), "--- ")
	if line == "" || !found {
		return screen
	}
	// The colour of the program's line begins before its text.
	start := strings.LastIndex(before, "\n") + 1
	return before[:start] + line + before[start:] + "--- " + after
}

// styles are the classes of the picture's style sheet for the codes that hubhook uses.
var styles = map[string]string{"1": "bold", "2": "dim", "31": "red", "32": "green", "33": "yellow", "34": "blue", "35": "magenta", "36": "cyan", "90": "dim", "4": "under"}

// styled returns the style after a sequence of codes.
func styled(style, codes string) string {
	for code := range strings.SplitSeq(codes, ";") {
		if name := styles[code]; name != "" {
			style = strings.TrimSpace(style + " " + name)
		} else {
			style = "" // 0, or the end of one style: hubhook ends all at once
		}
	}
	return style
}

// wrapped breaks lines that are wider than the picture, and moves what does not fit a little to the right.
func wrapped(lines [][]span, width int) [][]span {
	const indent = "      "
	var out [][]span
	for _, line := range lines {
		var row []span
		room := width
		for _, r := range line {
			text := []rune(r.text)
			for len(text) > room {
				// A line breaks best at a space, then before a part of another style.
				at := room
				if i := strings.LastIndex(string(text[:room]), " "); i >= 0 && strings.TrimSpace(string(text[:room])[:i]) != "" {
					at = len([]rune(string(text[:room])[:i])) + 1
				} else if len(row) > 0 && len(strings.TrimLeft(string(text), " ")) <= width-len(indent) {
					at = 0
				}
				out = append(out, append(row, span{r.style, strings.TrimRight(string(text[:at]), " ")}))
				text = []rune(strings.TrimLeft(string(text[at:]), " "))
				row, room = []span{{"", indent}}, width-len(indent)
			}
			row = append(row, span{r.style, string(text)})
			room -= len(text)
		}
		out = append(out, row)
	}
	return out
}

// The measures of the picture, in pixels.
const (
	cellWidth, cellHeight = 8.4, 20.0 // of a character of 14 px
	margin, bar           = 16.0, 34.0
)

const styleSheet = `
	text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre; fill: #1f2328 }
	.back { fill: #f6f8fa; stroke: #d0d7de } .dot { fill: #d0d7de }
	.bold { font-weight: 600 } .under { text-decoration: underline } .dim { fill: #59636e }
	.red { fill: #b3261e } .green { fill: #116329 } .yellow { fill: #7d4e00 } .blue { fill: #0550ae } .magenta { fill: #7a3f9d } .cyan { fill: #0b5c6b }
	@media (prefers-color-scheme: dark) {
		text { fill: #e6edf3 } .back { fill: #0d1117; stroke: #3d444d } .dot { fill: #3d444d } .dim { fill: #9198a1 }
		.red { fill: #ff8f87 } .green { fill: #56d364 } .yellow { fill: #e3b341 } .blue { fill: #79c0ff } .magenta { fill: #d2a8ff } .cyan { fill: #6ad0e0 }
	}
`

// svg draws the lines.
func svg(lines [][]span, width int) string {
	lines = wrapped(lines, width)
	w, h := 2*margin+cellWidth*float64(width), bar+margin+cellHeight*float64(len(lines))
	var b strings.Builder
	var said []string
	for _, line := range lines {
		var text strings.Builder
		for _, r := range line {
			text.WriteString(r.text)
		}
		said = append(said, strings.TrimRight(text.String(), " "))
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" aria-labelledby="what">`, w, h, w, h)
	fmt.Fprintf(&b, "\n<title id=\"what\">A terminal: %s</title>\n<style>%s</style>\n", html.EscapeString(command), styleSheet)
	fmt.Fprintf(&b, "<desc>%s</desc>\n", html.EscapeString(strings.Join(said, "\n")))
	fmt.Fprintf(&b, `<rect class="back" x="0.5" y="0.5" width="%.0f" height="%.0f" rx="8"/>`+"\n", w-1, h-1)
	for i := range 3 {
		fmt.Fprintf(&b, `<circle class="dot" cx="%d" cy="17" r="5"/>`, 20+18*i)
	}
	b.WriteString("\n")
	for i, line := range lines {
		y := bar + cellHeight*(float64(i)+0.75)
		column := 0
		for _, r := range line {
			if strings.TrimSpace(r.text) != "" {
				class := ""
				if r.style != "" {
					class = fmt.Sprintf(` class="%s"`, r.style)
				}
				// textLength keeps columns in line, whatever the font.
				lead := len([]rune(r.text)) - len([]rune(strings.TrimLeft(r.text, " ")))
				text := strings.TrimSpace(r.text)
				fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" textLength="%.1f" lengthAdjust="spacingAndGlyphs"%s>%s</text>`+"\n",
					margin+cellWidth*float64(column+lead), y, cellWidth*float64(len([]rune(text))), class, html.EscapeString(text))
			}
			column += len([]rune(r.text))
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}
