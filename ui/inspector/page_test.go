package inspector

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"strings"
	"testing"
)

func TestPageAndItsFilesAreServed(t *testing.T) {
	f := newFixture(t)
	files := 0
	err := fs.WalkDir(pageFiles, "page", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		response, body := f.request("GET", "/assets/"+strings.TrimPrefix(name, "page/"), "")
		content, err := pageFiles.ReadFile(name)
		if err != nil {
			return err
		}
		if response.StatusCode != 200 || body != string(content) {
			t.Errorf("%s: status %d, %d bytes, want 200 and %d", name, response.StatusCode, len(body), len(content))
		}
		if got := response.Header.Get("Content-Type"); path.Ext(name) == ".js" && got != "text/javascript; charset=utf-8" {
			t.Errorf("%s: Content-Type %q: a browser runs no module of that type", name, got)
		}
		return nil
	})
	if err != nil || files < 10 {
		t.Fatalf("%d files of the page: %v", files, err)
	}
	response, body := f.request("GET", "/?state=dead", "")
	if response.StatusCode != 200 || !strings.Contains(body, "/assets/app.js") || response.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("the page: status %d, %s", response.StatusCode, body)
	}
	response, _ = f.request("GET", "/assets/app.js", "")
	etag := response.Header.Get("ETag")
	response, body = f.request("GET", "/assets/app.js", "", func(r *http.Request) { r.Header.Set("If-None-Match", etag) })
	if response.StatusCode != 304 || body != "" {
		t.Errorf("a file again with its ETag %s: status %d, %d bytes", etag, response.StatusCode, len(body))
	}
}

func TestNothingButThePageIsUnderAssets(t *testing.T) {
	f := newFixture(t)
	for _, target := range []string{
		"/assets/", "/assets/missing.js", "/assets/vendor", "/assets/../page.go", "/assets/..%2fpage.go", "/assets/%2e%2e/page.go",
		"/assets/./app.js", "/assets//app.js", "/assets/vendor/../app.js", "/assets/%00", "/assets/C:%5Cwindows%5Cwin.ini",
	} {
		response, body := f.request("GET", target, "")
		if response.StatusCode != 404 {
			t.Errorf("%s: status %d, want 404", target, response.StatusCode)
		}
		wantError(t, body)
	}
	response, body := f.request("GET", "/assets/app.js", "", func(r *http.Request) { r.Header.Del("Authorization") })
	if response.StatusCode != 401 {
		t.Errorf("a file of the page without a token: status %d: %s", response.StatusCode, body)
	}
}

// The policy allows nothing inline, so that a string that gets into the page stays a string.
func TestPageNeedsNothingThatItsPolicyForbids(t *testing.T) {
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "form-action 'none'", "base-uri 'none'",
		"frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types lit-html"} {
		if !strings.Contains(contentSecurityPolicy+";", part+";") {
			t.Errorf("the policy %q has no %q", contentSecurityPolicy, part)
		}
	}
	if strings.Contains(contentSecurityPolicy, "unsafe") || strings.Contains(contentSecurityPolicy, "*") {
		t.Errorf("the policy %q is not strict", contentSecurityPolicy)
	}
	page, err := pageFiles.ReadFile("page/page.html")
	if err != nil {
		t.Fatal(err)
	}
	if m := regexp.MustCompile(`(?i)<script(?:\s[^>]*)?>[^<]|<style|\sstyle=|\son\w+=|javascript:|https?://`).Find(page); m != nil {
		t.Errorf("page.html has %q", m)
	}
	scripts, err := fs.Glob(pageFiles, "page/*.js")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("%d scripts: %v", len(scripts), err)
	}
	// lit-html's templates are safe as long as they are literals and nobody opens its doors to raw HTML.
	for _, name := range scripts {
		script, err := pageFiles.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if m := regexp.MustCompile(`unsafe|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\sstyle=`).Find(script); m != nil {
			t.Errorf("%s has %q", name, m)
		}
	}
}

// Vendored files are exactly as published.
func TestVendoredFilesAreAsPublished(t *testing.T) {
	readme, err := pageFiles.ReadFile("page/vendor/README.md")
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	err = fs.WalkDir(pageFiles, "page/vendor", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name == "page/vendor/README.md" {
			return err
		}
		files++
		content, err := pageFiles.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		line := hex.EncodeToString(sum[:]) + "  " + strings.TrimPrefix(name, "page/vendor/")
		if !strings.Contains(string(readme), line+"\n") {
			t.Errorf("page/vendor/README.md has no line %q", line)
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Fatalf("%d vendored files: %v", files, err)
	}
	if listed := len(regexp.MustCompile(`(?m)^[0-9a-f]{64}  `).FindAll(readme, -1)); listed != files {
		t.Errorf("page/vendor/README.md lists %d files, there are %d", listed, files)
	}
}
