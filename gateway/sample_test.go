package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roomcast/gateway/client"
	"roomcast/gateway/server/servertest"
	"roomcast/proto"
)

var writeSample = flag.Bool("write-sample", false, "write the sample logs anew; commit only those of a version that has not been released")

// sample is a compressed data directory that some version of Roomcast has written. Later
// versions must be able to read it, so it is never written again. The .jsonl file beside it
// contains the events of its rooms, one [sampleRoom] on each line.
type sample struct {
	dir   string // directory below testdata, named after the version
	name  string
	flags []string
}

// The sample is old. The default limits would remove its records and forget its keys.
var sampleFlags = []string{"--history-age", "876000h", "--key-window", "876000h", "--history-per-room", "70", "--time-zone", "UTC"}

var samples = []sample{
	{"log-0.1.0", "plain", sampleFlags},
	{"log-0.1.0", "sealed", append([]string{"--encryption-key-file", "testdata/log-0.1.0/key"}, sampleFlags...)},
}

// sampleRoom is the answer to an HTTP request that reads a whole room.
type sampleRoom struct {
	Room   string            `json:"room"`
	Events []json.RawMessage `json:"events"`
	Gap    json.RawMessage   `json:"gap,omitempty"`
	More   bool              `json:"more"`
	Seq    uint64            `json:"seq"`
	Epoch  string            `json:"epoch"`
	Closed bool              `json:"closed,omitempty"`
	Why    string            `json:"why,omitempty"`
}

func (s sample) path(suffix string) string { return filepath.Join("testdata", s.dir, s.name+suffix) }

// serve runs a gateway with the data directory.
func (s sample) serve(t *testing.T, dir string, more ...string) (base string, stop func()) {
	t.Helper()
	base, end := serveUntil(t, append(append([]string{"--data-dir", dir}, s.flags...), more...)...)
	stop = func() {
		t.Helper()
		if err := end(); err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
	}
	t.Cleanup(stop)
	return base, stop
}

// read reads a whole room over HTTP.
func (s sample) read(t *testing.T, base, room string) (r sampleRoom) {
	t.Helper()
	status, body := servertest.Call(t, "GET", base+"api/rooms/"+url.PathEscape(room)+"/messages?since=0&limit=256", "")
	if status != http.StatusOK {
		t.Fatalf("read %s: got %d %s", room, status, body)
	}
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func post(t *testing.T, base, room, verb string, query url.Values, body string) (seq uint64) {
	t.Helper()
	status, answer := servertest.Call(t, "POST", base+"api/rooms/"+url.PathEscape(room)+"/"+verb+"?"+query.Encode(), body, "Content-Type", "application/json")
	if status != http.StatusOK {
		t.Fatalf("%s in %s: got %d %s", verb, room, status, answer)
	}
	var ok struct{ OK struct{ Seq uint64 } }
	if err := json.Unmarshal([]byte(answer), &ok); err != nil {
		t.Fatal(err)
	}
	return ok.OK.Seq
}

// This version must continue where an older version has stopped.
func TestSampleLogsOfEachVersionAreRead(t *testing.T) {
	for _, s := range samples {
		t.Run(s.dir+" "+s.name, func(t *testing.T) {
			if *writeSample {
				s.write(t)
			}
			dir := t.TempDir()
			unpack(t, s.path(".tar.gz"), dir)
			base, stop := s.serve(t, dir)
			want := s.rooms(t)
			c := dialSample(t, base)
			for _, room := range want {
				s.check(t, base, c, room)
			}
			s.checkActs(t, base)
			stop()

			// After another start, the log must contain the old messages and the new ones.
			base, _ = s.serve(t, dir)
			for _, room := range want {
				if room.Closed {
					continue
				}
				if got := s.read(t, base, room.Room); got.Seq != room.Seq+1 || got.Epoch != room.Epoch {
					t.Errorf("%s: got head %d of epoch %s, want %d of %s", room.Room, got.Seq, got.Epoch, room.Seq+1, room.Epoch)
				}
			}
		})
	}
}

// rooms returns the rooms of the sample. It reads them from the file beside the sample.
func (s sample) rooms(t *testing.T) (rooms []sampleRoom) {
	t.Helper()
	f, err := os.Open(s.path(".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := json.NewDecoder(f); ; {
		var r sampleRoom
		err := lines.Decode(&r)
		if err == io.EOF {
			return rooms
		}
		if err != nil {
			t.Fatal(err)
		}
		rooms = append(rooms, r)
	}
}

func dialSample(t *testing.T, base string) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Config{URLs: []string{strings.Replace(base, "http", "ws", 1)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// check reads a room over HTTP and with a join, resumes in the room and says something.
func (s sample) check(t *testing.T, base string, c *client.Client, want sampleRoom) {
	t.Helper()
	got, err := json.Marshal(s.read(t, base, want.Room))
	if err != nil {
		t.Fatal(err)
	}
	if line, _ := json.Marshal(want); !bytes.Equal(got, line) {
		t.Fatalf("got %s\nwant %s", got, line)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	room := proto.MustRoom(want.Room)
	_, err = c.Join(ctx, room, proto.From{HasSince: true})
	if want.Closed {
		if err == nil || !strings.Contains(err.Error(), want.Why) {
			t.Errorf("join %s: got %v, want a refusal that says %q", room, err, want.Why)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	s.follow(t, c, room, want.Gap != nil, want.Events)
	if err := c.Leave(ctx, room); err != nil {
		t.Fatal(err)
	}

	// A client that has not received the newest event resumes and must receive it.
	rest := want.Events[len(want.Events)-2:]
	seen, err := proto.ParseEvent(rest[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Join(ctx, room, proto.From{HasSince: true, Since: seen.Seq, Epoch: want.Epoch, At: seen.At}); err != nil {
		t.Fatal(err)
	}
	s.follow(t, c, room, false, rest[1:])
	ack, err := c.Say(ctx, room, client.Text("by a later version"))
	if err != nil || ack.Seq != want.Seq+1 {
		t.Errorf("say in %s: got %+v, %v, want seq %d", room, ack, err, want.Seq+1)
	}
}

// follow checks the client's next notices of the room. If gap is true, the first must be a gap.
// All others must be the events.
func (s sample) follow(t *testing.T, c *client.Client, room proto.Room, gap bool, events []json.RawMessage) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for len(events) > 0 {
		n, err := c.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case n.Room != room:
		case n.Gap != nil:
			if !gap {
				t.Fatalf("%s: got the gap %+v", room, n.Gap)
			}
			gap = false
		case n.Event != nil:
			if got := n.Event.AppendJSON(nil); !bytes.Equal(got, events[0]) {
				t.Fatalf("%s: got %s\nwant %s", room, got, events[0])
			}
			events = events[1:]
		}
	}
	if gap {
		t.Errorf("%s: got no gap", room)
	}
}

// checkActs checks keys, epochs and closed rooms.
func (s sample) checkActs(t *testing.T, base string) {
	t.Helper()
	ann := url.Values{"from": {"ann"}, "name": {"Ann Ø"}}
	if seq := post(t, base, "kinds", "messages", ann, `{"text":"plain text","key":"k1"}`); seq != 1 {
		t.Errorf("a key that is sent again: got seq %d, want 1", seq)
	}
	if status, body := servertest.Call(t, "POST", base+"api/rooms/kinds/messages?from=ann", `{"text":"other text","key":"k1"}`, "Content-Type", "application/json"); status != http.StatusBadRequest {
		t.Errorf("a key with other content: got %d %s, want 400", status, body)
	}
	if status, body := servertest.Call(t, "POST", base+"api/rooms/closed/messages", `{"text":"late"}`, "Content-Type", "application/json"); status != http.StatusConflict {
		t.Errorf("say in the closed room: got %d %s, want 409", status, body)
	}
	if seq := post(t, base, "closed", "reopen", nil, `{"why":"again"}`); seq != 3 {
		t.Errorf("reopen: got seq %d, want 3", seq)
	}
	status, body := servertest.Call(t, "GET", base+"api/rooms/renewed/messages?since=2&epoch=old", "")
	if status != http.StatusOK || !strings.Contains(body, `"reason":"reset"`) {
		t.Errorf("read in another epoch: got %d %s, want a reset", status, body)
	}
	conn := servertest.Join(t, base, "room/closed/?last=1")
	servertest.Send(t, conn, "hello")
	if got, _ := servertest.Next(t, conn); !strings.HasSuffix(got, " hello") {
		t.Errorf("got %q in the reopened room, want hello", got)
	}
}

// write makes the sample. The room "renewed" has a second epoch, as after a power failure. To
// achieve this, write restores an older copy of the log but keeps the newer witness file.
func (s sample) write(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	s.run(t, dir, func(base string) {
		for _, text := range []string{"first", "second"} {
			post(t, base, "renewed", "messages", nil, `{"text":"`+text+`"}`)
		}
	})
	older := t.TempDir()
	if err := os.CopyFS(older, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	s.run(t, dir, func(base string) {
		post(t, base, "renewed", "messages", nil, `{"text":"lost"}`)
	})
	newer, err := os.ReadFile(filepath.Join(dir, "witness.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(older, "witness.json"), newer, 0o600); err != nil {
		t.Fatal(err)
	}
	names := []string{"renewed", "kinds", "многая.лета~чай:1", "a@b.c+d=e-f_g", "हिन्दी", "long", "closed", "reopened"}
	s.run(t, older, func(base string) {
		s.fill(t, base, names)
	})
	s.run(t, older, func(base string) {
		f, err := os.Create(s.path(".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, name := range names {
			line, err := json.Marshal(s.read(t, base, name))
			if err != nil {
				t.Fatal(err)
			}
			f.Write(append(line, '\n'))
		}
	})
	pack(t, older, s.path(".tar.gz"))
}

func (s sample) run(t *testing.T, dir string, work func(base string)) {
	t.Helper()
	base, stop := s.serve(t, dir)
	work(base)
	stop()
}

func (s sample) fill(t *testing.T, base string, names []string) {
	t.Helper()
	ann, ben := url.Values{"from": {"ann"}, "name": {"Ann Ø"}}, url.Values{"from": {"ben@example.com"}}
	post(t, base, "renewed", "messages", ann, `{"text":"after the loss"}`)
	for i, body := range []string{
		`{"text":"plain text","key":"k1"}`, `{"text":"with \"escapes\"\n\u0007 and ünïcödé 😀"}`, `{"text":""}`,
		`{"data":{"a":[1,2.5e3,null,true],"b":"ж"},"key":"k4"}`, `{"data":null}`, `{"bin":"AAECgP8="}`, `{"bin":""}`,
		`{"type":"order.new","data":{"id":17}}`, `{"type":"note","text":"typed text"}`, `{"type":"img.png","bin":"iVBORw0K"}`,
	} {
		if seq := post(t, base, "kinds", "messages", ann, body); seq != uint64(i+1) {
			t.Fatalf("got seq %d, want %d", seq, i+1)
		}
	}
	post(t, base, "kinds", "messages", ann, `{"text":"plain text","key":"k1"}`) // the same message and key as above, so it is not stored again
	for _, name := range names[2:5] {
		post(t, base, name, "messages", ben, `{"text":"first"}`)
		post(t, base, name, "messages", nil, `{"text":"`+name+`"}`)
	}
	for n := range 150 { // these fill three pages; the limit of records keeps the last 70
		post(t, base, "long", "messages", nil, fmt.Sprintf(`{"text":"%d"}`, n+1))
	}
	conn := servertest.Join(t, base, "room/closed/")
	servertest.Send(t, conn, "by a text session")
	servertest.Hear(t, conn, " by a text session")
	servertest.Send(t, conn, "关闭") // this close word stores nothing
	if got, code := servertest.Next(t, conn); code != 1000 {
		t.Fatalf("got %q, %d after the close word, want 1000", got, code)
	}
	post(t, base, "closed", "close", ben, `{"why":"done for today"}`)
	post(t, base, "reopened", "messages", nil, `{"text":"before"}`)
	post(t, base, "reopened", "close", ben, `{"why":"a break"}`)
	post(t, base, "reopened", "reopen", ben, `{"why":"the break is over"}`)
	post(t, base, "reopened", "messages", nil, `{"text":"after"}`)
}

// pack writes the files below dir into a compressed tar file.
func pack(t *testing.T, dir, path string) {
	t.Helper()
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(zip)
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(b))}); err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// unpack extracts a file that pack has written.
func unpack(t *testing.T, path, dir string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
