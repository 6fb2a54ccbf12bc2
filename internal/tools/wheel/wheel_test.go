package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPythonVersion(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"v1.2.3":            "1.2.3",
		"1.2.3":             "1.2.3",
		"1.2.3-rc.1":        "1.2.3rc1",
		"1.2.3-alpha":       "1.2.3a0",
		"1.2.3-beta.12":     "1.2.3b12",
		"0.0.0-dev+571A604": "0.0.0.dev0+571a604",
	} {
		if got, err := pythonVersion(version); err != nil || got != want {
			t.Errorf("pythonVersion(%q) is %q, %v; want %q", version, got, err, want)
		}
	}
	for _, version := range []string{"", "1.2", "devel", "1.2.3-nightly", "1.2.3 ", "v1.2.3-rc.1-2-gabc"} {
		if got, err := pythonVersion(version); err == nil {
			t.Errorf("pythonVersion(%q) is %q, want an error", version, got)
		}
	}
}

// Every file stands in RECORD with its sum and size, as pip checks it, and the binary is where pip looks for scripts.
func TestWheel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ goos, goarch, file, script string }{
		{"linux", "amd64", "hubhook-1.2.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.musllinux_1_1_x86_64.whl", "hubhook"},
		{"linux", "arm64", "hubhook-1.2.3-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.musllinux_1_1_aarch64.whl", "hubhook"},
		{"darwin", "amd64", "hubhook-1.2.3-py3-none-macosx_12_0_x86_64.whl", "hubhook"},
		{"darwin", "arm64", "hubhook-1.2.3-py3-none-macosx_12_0_arm64.whl", "hubhook"},
		{"windows", "amd64", "hubhook-1.2.3-py3-none-win_amd64.whl", "hubhook.exe"},
		{"windows", "arm64", "hubhook-1.2.3-py3-none-win_arm64.whl", "hubhook.exe"},
	} {
		t.Run(c.goos+"/"+c.goarch, func(t *testing.T) {
			t.Parallel()
			tags, err := platformTags(c.goos, c.goarch)
			if err != nil {
				t.Fatal(err)
			}
			w := &wheel{goos: c.goos, goarch: c.goarch, version: "1.2.3", tags: tags, binary: []byte("the binary"), license: []byte("the licence"),
				modified: time.Unix(1700000001, 0).UTC()}
			if got := w.fileName(); got != c.file {
				t.Errorf("the file's name is %s, want %s", got, c.file)
			}
			var packed, again bytes.Buffer
			if err := w.write(&packed); err != nil {
				t.Fatal(err)
			}
			if err := w.write(&again); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(packed.Bytes(), again.Bytes()) {
				t.Error("two wheels of the same binary differ")
			}
			z, err := zip.NewReader(bytes.NewReader(packed.Bytes()), int64(packed.Len()))
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, f := range z.File {
				content := read(t, f)
				if strings.HasSuffix(f.Name, "/RECORD") {
					want = append(want, f.Name+"  ") // it can't have a sum of itself
					continue
				}
				sum := sha256.Sum256(content)
				want = append(want, fmt.Sprintf("%s sha256=%s %d", f.Name, base64.RawURLEncoding.EncodeToString(sum[:]), len(content)))
			}
			if got := recorded(t, read(t, z.File[len(z.File)-1])); !slices.Equal(got, want) {
				t.Errorf("RECORD has the lines\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			script, err := z.Open("hubhook-1.2.3.data/scripts/" + c.script)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := script.Stat(); err != nil || info.Mode() != 0o755 {
				t.Errorf("the binary has the mode %v, %v; want 0755", info.Mode(), err)
			}
		})
	}
}

func TestUnknownPlatform(t *testing.T) {
	t.Parallel()
	for _, platform := range [][2]string{{"linux", "386"}, {"plan9", "amd64"}, {"", ""}} {
		if tags, err := platformTags(platform[0], platform[1]); err == nil {
			t.Errorf("platformTags(%s) is %v, want an error", platform, tags)
		}
	}
}

func read(t *testing.T, f *zip.File) []byte {
	t.Helper()
	r, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// recorded returns the lines of RECORD with spaces for commas.
func recorded(t *testing.T, record []byte) []string {
	t.Helper()
	rows, err := csv.NewReader(bytes.NewReader(record)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, row := range rows {
		lines = append(lines, strings.Join(row, " "))
	}
	return lines
}
