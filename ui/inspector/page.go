package inspector

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"time"

	"github.com/gorilla/mux"
)

// pageFiles are the page and all files that it loads, as they are in the repository: there is no build step. Files of others are under
// vendor; its README.md names versions, licences and sources.
//
//go:embed page
var pageFiles embed.FS

// contentSecurityPolicy lets the page load files of this server alone: no inline script or style, no form, no frame, no other origin.
// Text becomes HTML only through lit-html's templates, which are literals in the page's code. The browser itself refuses any other way.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types lit-html"

// page answers GET / with the document. The document gets its data from the API.
func (in *Inspector) page(w http.ResponseWriter, r *http.Request) { servePageFile(w, r, "page.html") }

// asset answers GET /assets/PATH. Browsers cache these files, but ask each time whether they are still valid, because another hubhook
// may answer at this address tomorrow.
func (in *Inspector) asset(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "private, no-cache")
	servePageFile(w, r, mux.Vars(r)["path"])
}

func servePageFile(w http.ResponseWriter, r *http.Request, name string) {
	var content []byte
	err := fs.ErrNotExist
	if fs.ValidPath(name) {
		content, err = pageFiles.ReadFile("page/" + name)
	}
	if err != nil {
		writeError(w, http.StatusNotFound, "the inspector has nothing at this path")
		return
	}
	h := w.Header()
	h.Set("Content-Type", mediaType(name))
	sum := sha256.Sum256(content)
	h.Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
}

// mediaType knows the types that the page depends on. It does not ask the system for them, because the system's table may be wrong.
func mediaType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".md", "":
		return "text/plain; charset=utf-8"
	}
	return mime.TypeByExtension(path.Ext(name))
}
