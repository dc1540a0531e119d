package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"roomcast/proto"
)

// server is the server of a scenario. Its HTTP handler waits until the player accepts or refuses
// the handshake.
type server struct {
	*httptest.Server
	board    *board
	attempts chan *attempt
	ended    chan struct{} // closed when the player will accept no more attempts
	links    sync.WaitGroup
}

// attempt is a handshake that waits for the player.
type attempt struct {
	status chan int   // receives the status of the refusal; 0 = accept
	link   chan *link // receives the connection; nil = the handshake failed
	given  map[string]any
}

// link is one connection. The goroutine of serve reads from it, and the player writes to it.
type link struct {
	conn   net.Conn
	board  *board
	silent chan struct{} // closed when the server must not answer any more
}

func newServer(b *board) *server {
	s := &server{board: b, attempts: make(chan *attempt), ended: make(chan struct{})}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	a := &attempt{status: make(chan int, 1), link: make(chan *link, 1), given: credentials(r)}
	select {
	case s.attempts <- a:
	case <-r.Context().Done():
		return
	case <-s.ended:
		return
	}
	if status := <-a.status; status != 0 {
		http.Error(w, "refused by the scenario", status)
		return
	}
	up := ws.HTTPUpgrader{Protocol: func(p string) bool { return p == "roomcast.v1" }}
	conn, rw, _, err := up.Upgrade(r, w)
	if err != nil {
		a.link <- nil
		return
	}
	l := &link{conn: conn, board: s.board, silent: make(chan struct{})}
	s.links.Add(1)
	defer s.links.Done()
	s.board.begin(l)
	a.link <- l
	l.read(rw)
}

// credentials returns the credentials of a handshake, from subprotocols, query and headers.
func credentials(r *http.Request) map[string]any {
	given := map[string]any{"path": r.URL.Path}
	for offer := range strings.SplitSeq(strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(offer), ".")
		switch name {
		case "resume":
			given["resume"] = value
		case "bearer":
			given["token"] = value
		}
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		given["token"] = token
	}
	if ticket := r.URL.Query().Get("ticket"); ticket != "" {
		given["ticket"] = ticket
	}
	if r.URL.Query().Has("resume") || r.URL.Query().Has("token") {
		given["secrets_in_url"] = true
	}
	return given
}

// read puts the client's frames on the board until the connection ends. It answers control
// frames of WebSocket and the command ping itself, so that scenarios need not mention them.
func (l *link) read(r io.Reader) {
	defer l.conn.Close()
	rw := struct {
		io.Reader
		io.Writer
	}{r, l}
	for {
		text, err := wsutil.ReadClientText(rw)
		if err != nil {
			return
		}
		frame, err := parseObject(string(text))
		if err != nil {
			l.board.fail("the client sent a frame that is not JSON: " + string(text))
			return
		}
		if _, ping := frame["ping"]; ping {
			l.send(map[string]any{"id": frame["id"], "ok": map[string]any{}})
			continue
		}
		l.board.put("client", l, frame)
	}
}

// Write writes p to the connection. If the server has fallen silent, it drops p.
func (l *link) Write(p []byte) (int, error) {
	select {
	case <-l.silent:
		return len(p), nil
	default:
		return l.conn.Write(p)
	}
}

func (l *link) send(frame map[string]any) {
	text, err := json.Marshal(frame)
	if err != nil {
		panic(err) // impossible, because the frame was parsed from JSON
	}
	l.board.note("server " + string(text))
	wsutil.WriteServerText(l, text) // ignore the error: the next step notices a broken connection
}

func (l *link) close(code proto.CloseCode, reason string) {
	ws.WriteFrame(l, ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusCode(code), reason)))
}
