package web

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, h http.Handler, method, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestFilesAreServedWithTheirHeaders(t *testing.T) {
	h := New()
	for path, kind := range map[string]string{
		"/":              "text/html; charset=utf-8",
		"/?group=x":      "text/html; charset=utf-8",
		"/page.js":       "text/javascript; charset=utf-8",
		"/start.js":      "text/javascript; charset=utf-8",
		"/timeline.js":   "text/javascript; charset=utf-8",
		"/words.js":      "text/javascript; charset=utf-8",
		"/room.js":       "text/javascript; charset=utf-8",
		"/membership.js": "text/javascript; charset=utf-8",
		"/message.js":    "text/javascript; charset=utf-8",
		"/events.js":     "text/javascript; charset=utf-8",
		"/moderate.js":   "text/javascript; charset=utf-8",
		"/welcome.js":    "text/javascript; charset=utf-8",
		"/style.css":     "text/css; charset=utf-8",
		"/icon.svg":      "image/svg+xml",
	} {
		r := get(t, h, "GET", path)
		if r.StatusCode != 200 || r.Header.Get("Content-Type") != kind {
			t.Errorf("%s: got %d %s, want 200 %s", path, r.StatusCode, r.Header.Get("Content-Type"), kind)
		}
		document := func(value string) string {
			if strings.HasPrefix(kind, "text/html") || strings.HasPrefix(kind, "image/svg") {
				return value
			}
			return ""
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": document(policy),
			"X-Content-Type-Options":  "nosniff",
			"Referrer-Policy":         document("no-referrer"),
			"Cache-Control":           "no-cache",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: got %s %q, want %q", path, name, got, want)
			}
		}
		again := get(t, h, "GET", path, "If-None-Match", r.Header.Get("ETag"))
		if again.StatusCode != http.StatusNotModified {
			t.Errorf("%s asked again with its ETag: got %d, want 304", path, again.StatusCode)
		}
	}
	for path, want := range map[string]string{"/room.js": "*", "/membership.js": "*", "/message.js": "*", "/events.js": "*", "/page.js": "", "/": ""} {
		if got := get(t, h, "GET", path).Header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("%s for other origins: got %q, want %q", path, got, want)
		}
	}
	for _, path := range []string{"/index.html", "/web.go", "/room.test.js", "/room.d.ts", "/package.json", "/..", "/x"} {
		if r := get(t, h, "GET", path); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", path, r.StatusCode)
		}
	}
	if r := get(t, h, "POST", "/"); r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST /: got %d, want 405", r.StatusCode)
	}
}

func TestFilesAreCompressedForBrowsersThatTakeIt(t *testing.T) {
	h := New()
	plain := get(t, h, "GET", "/page.js")
	want, _ := io.ReadAll(plain.Body)
	for accept, zipped := range map[string]bool{
		"": false, "gzip": true, "gzip, deflate, br": true, "br;q=1, gzip;q=0.5": true, "identity": false, "gzip;q=0": false, "gzip; q=0.0, br": false, "xgzip": false,
	} {
		r := get(t, h, "GET", "/page.js", "Accept-Encoding", accept)
		if got := r.Header.Get("Content-Encoding") == "gzip"; got != zipped {
			t.Errorf("%q: compressed %v, want %v", accept, got, zipped)
			continue
		}
		if r.Header.Get("Vary") != "Accept-Encoding" || (r.Header.Get("ETag") != plain.Header.Get("ETag")) != zipped {
			t.Errorf("%q: got Vary %q and ETag %s", accept, r.Header.Get("Vary"), r.Header.Get("ETag"))
		}
		body := io.Reader(r.Body)
		if zipped {
			var err error
			if body, err = gzip.NewReader(r.Body); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := io.ReadAll(body); err != nil || string(got) != string(want) {
			t.Errorf("%q: the body differs: %v", accept, err)
		}
		again := get(t, h, "GET", "/page.js", "Accept-Encoding", accept, "If-None-Match", r.Header.Get("ETag"))
		if again.StatusCode != http.StatusNotModified {
			t.Errorf("%q: asked again with its ETag: got %d, want 304", accept, again.StatusCode)
		}
	}
}

func TestFilesAreServedWithoutComments(t *testing.T) {
	for source, want := range map[string]string{
		"// one\n  // two's\nlet a = 1; // three\n":         "\n\nlet a = 1;\n",
		"/** one\n * two\n */\nf(); /* @__KEY__ */\n":       "\n\n\nf(); /* @__KEY__ */\n",
		"  /* one */\n  b { }\n":                            "\nb { }\n",
		"const a = \"http://x // y\"; // the page's root\n": "const a = \"http://x // y\"; // the page's root\n",
		"x.split(/ // */g); y = ` // z`; // 1/2\n":          "x.split(/ // */g); y = ` // z`; // 1/2\n",
	} {
		if got := string(squeeze([]byte(source))); got != want {
			t.Errorf("%q becomes %q, want %q", source, got, want)
		}
	}
}

// On a slow network, the download decides how long a first visit takes. scripts/page measures it.
func TestFirstVisitIsSmall(t *testing.T) {
	h := New()
	page := h.files["/"]
	requests, bytes := 1, len(page.zipped)
	seen := map[string]bool{}
	for _, link := range regexp.MustCompile(`(?:src|href)="\./([^"]*)"`).FindAllStringSubmatch(string(page.body), -1) {
		if !seen[link[1]] {
			seen[link[1]] = true
			requests++
			bytes += len(h.files["/"+link[1]].zipped)
		}
	}
	if requests > 13 || bytes > 37_000 {
		t.Errorf("a first visit needs %d requests and %d bytes, want at most 13 and 37000", requests, bytes)
	}
}

// The URLs in the page must fit every address of the page, below every path.
func TestPageFindsItsFilesBelowAnyPath(t *testing.T) {
	h := New()
	links := regexp.MustCompile(`(?:src|href)="([^"]*)"`)
	for _, path := range []string{"/", "/?group=x", "/room/lobby", "/room/lobby/", "/room/%E4%BD%A0/?last=5"} {
		serve := http.Handler(h)
		if strings.HasPrefix(path, "/room/") {
			serve = http.HandlerFunc(h.Page)
		}
		r := get(t, serve, "GET", path)
		body, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != 200 {
			t.Fatalf("%s: got %d, %v", path, r.StatusCode, err)
		}
		found := 0
		for _, prefix := range []string{"", "/chat", "/a/b/c"} {
			page, err := url.Parse("https://chat.example.org" + prefix + path)
			if err != nil {
				t.Fatal(err)
			}
			for _, link := range links.FindAllStringSubmatch(string(body), -1) {
				to, err := page.Parse(link[1])
				if err != nil {
					t.Fatal(err)
				}
				if h.files[strings.TrimPrefix(to.Path, prefix)].name == "" {
					t.Errorf("%s%s: %q leads to %s, which does not exist", prefix, path, link[1], to)
				}
				found++
			}
		}
		if found != 3*13 {
			t.Errorf("%s: got %d addresses, want 39", path, found)
		}
	}
}

// The files contain no inline scripts or styles either, because the policy refuses them. Without
// this test, a mistake would show only in a user's console.
func TestFilesLoadNothingFromOtherServers(t *testing.T) {
	inline := regexp.MustCompile(`(?i)<script(?:[^>]*)>[^<]|<style|\sstyle=|\son[a-z]+=|javascript:`)
	markup := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function`)
	elsewhere := regexp.MustCompile(`(?i)(?:src|href)="(?:https?:|/)|(?-i:url\()|@import|from "https?:`)
	for path, f := range New().files {
		body := string(f.body)
		if strings.HasSuffix(f.name, ".html") {
			if m := inline.FindString(body); m != "" {
				t.Errorf("%s has %q", path, m)
			}
		}
		if strings.HasSuffix(f.name, ".js") {
			if m := markup.FindString(body); m != "" {
				t.Errorf("%s uses %q", path, m)
			}
		}
		if m := elsewhere.FindString(body); m != "" {
			t.Errorf("%s loads from another server: %q", path, m)
		}
	}
}
