// Package web serves the page at / and the JavaScript client, which begins at /room.js. The
// files are embedded in the binary and need no build step; they are served without comments. The
// page loads nothing from other servers.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"net/http"
	"path"
	"regexp"
	"strings"
	"time"

	"roomcast/gateway/client/js"
)

//go:embed index.html style.css icon.svg icon-unread.svg start.js page.js moderate.js people.js rooms.js timeline.js bubble.js welcome.js words.js later.js
var files embed.FS

// policy is the Content-Security-Policy of the page. The page may load files from and connect to
// its own server only. It must not use inline scripts or styles, and must not turn strings into
// HTML.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// types holds the content types by extension. The results of package mime depend on the machine.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// deepest is the number of directories between the page and /room/<group>/.
const deepest = 2

// Handler serves the page at / and its files, and answers 404 to everything else. The URLs
// in the page are relative, so a proxy may serve it below any path. A Handler is immutable
// after New and safe for concurrent use.
type Handler struct {
	files map[string]file   // by URL path
	pages [deepest + 1]file // by the number of directories in the path: the page with fitting URLs
}

type file struct {
	name   string
	body   []byte
	zipped []byte // body, compressed with gzip
	etag   string
	client bool // a file of the client, which pages of any origin may import; --allow-origin limits the pages that may connect
}

func newFile(name string, body []byte) file {
	sum := sha256.Sum256(body)
	var zipped bytes.Buffer
	w, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression) // the level is valid
	w.Write(body)                                              // a write to a Buffer cannot fail
	w.Close()
	return file{name: name, body: body, zipped: zipped.Bytes(), etag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
}

// New returns a Handler of the embedded files.
func New() *Handler {
	h := &Handler{files: make(map[string]file)}
	h.add(files, false)
	h.add(js.Files, true)
	page := h.files["/index.html"].body
	for depth := range h.pages {
		up := strings.Repeat("../", depth)
		h.pages[depth] = newFile("index.html", bytes.ReplaceAll(page, []byte(`="./`), []byte(`="./`+up)))
	}
	h.files["/"] = h.pages[0]
	delete(h.files, "/index.html")
	return h
}

// needless matches text that a browser does not need: indentation, comments on lines of their own,
// and comments at the end of a line. A comment at the end of a line matches only if it contains no
// quote and no slash. Otherwise a part of a string or of a regular expression could match. No file
// has a string of several lines.
var needless = regexp.MustCompile("(?m)^[ \\t]*(?://.*|/\\*(?s:.*?)\\*/)|^[ \\t]+|[ \\t]+// [^\\n\"'`/]*$")

// squeeze removes what a browser does not need. The lines keep their numbers.
func squeeze(body []byte) []byte {
	return needless.ReplaceAllFunc(body, func(b []byte) []byte {
		return bytes.Repeat([]byte("\n"), bytes.Count(b, []byte("\n")))
	})
}

func (h *Handler) add(from embed.FS, client bool) {
	entries, err := from.ReadDir(".")
	if err != nil {
		panic(err) // cannot happen: the files are embedded
	}
	for _, e := range entries {
		body, err := from.ReadFile(e.Name())
		if err != nil {
			panic(err)
		}
		if ext := path.Ext(e.Name()); ext == ".js" || ext == ".css" {
			body = squeeze(body)
		}
		f := newFile(e.Name(), body)
		f.client = client
		h.files["/"+e.Name()] = f
	}
}

// ServeHTTP serves the file at the request's path.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := h.files[r.URL.Path]
	if !ok {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	f.serve(w, r)
}

// Page serves the page to a browser at /room/<group> and /room/<group>/. The page takes the
// room from its address.
func (h *Handler) Page(w http.ResponseWriter, r *http.Request) {
	depth := strings.Count(r.URL.Path, "/") - 1
	h.pages[min(max(depth, 0), deepest)].serve(w, r)
}

func (f file) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are allowed", http.StatusMethodNotAllowed)
		return
	}
	header := w.Header()
	header.Set("Content-Type", types[path.Ext(f.name)])
	header.Set("X-Content-Type-Options", "nosniff")
	if ext := path.Ext(f.name); ext == ".html" || ext == ".svg" { // only documents need them, and each byte counts on a slow network
		header.Set("Content-Security-Policy", policy)
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
	}
	// The names have no version, so a browser must revalidate its copy each time.
	header.Set("Cache-Control", "no-cache")
	header.Set("Vary", "Accept-Encoding")
	if f.client {
		header.Set("Access-Control-Allow-Origin", "*")
	}
	body, etag := f.body, f.etag
	if r.Header.Get("Range") == "" && takesGzip(r.Header.Get("Accept-Encoding")) {
		header.Set("Content-Encoding", "gzip")
		body, etag = f.zipped, strings.TrimSuffix(f.etag, `"`)+`-z"`
	}
	header.Set("ETag", etag)
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(body))
}

// takesGzip reports whether a browser that accepts these encodings reads gzip.
func takesGzip(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		name, q, _ := strings.Cut(part, ";")
		if strings.TrimSpace(name) == "gzip" {
			q = strings.ReplaceAll(q, " ", "")
			return !strings.HasPrefix(q, "q=0") || strings.Trim(q, "q=0.") != ""
		}
	}
	return false
}
