package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// silence is how long hearsNothing waits for a frame.
const silence = 400 * time.Millisecond

// member is one WebSocket connection in a room.
type member struct{ conn *websocket.Conn }

// connect opens a session in a room. A query is for example "last=10". The offers are subprotocols;
// without any, the session is a text session.
func connect(ctx context.Context, base, room, query string, offers ...string) (*member, error) {
	address := strings.Replace(base, "http", "ws", 1)
	address = strings.TrimSuffix(address, "/") + "/room/" + url.PathEscape(room) + "/"
	if query != "" {
		address += "?" + query
	}
	conn, _, err := websocket.Dial(ctx, address, &websocket.DialOptions{Subprotocols: offers})
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	conn.SetReadLimit(1 << 20)
	return &member{conn}, nil
}

func (m *member) leave() { m.conn.Close(websocket.StatusNormalClosure, "") }

func (m *member) say(ctx context.Context, text string) error {
	return m.conn.Write(ctx, websocket.MessageText, []byte(text))
}

func (m *member) hear(ctx context.Context) (string, error) {
	_, p, err := m.conn.Read(ctx)
	return string(p), err
}

// hears reads the next frame and checks that it consists of a stamp and the text.
func (m *member) hears(ctx context.Context, text string) error {
	frame, err := m.hear(ctx)
	if err != nil {
		return fmt.Errorf("hear %q: %w", text, err)
	}
	if len(frame) < len(time.DateTime)+1 || frame[len(time.DateTime)+1:] != text {
		return fmt.Errorf("got %q, want a stamp and %q", frame, text)
	}
	if _, err := time.Parse(time.DateTime, frame[:len(time.DateTime)]); err != nil {
		return fmt.Errorf("got %q, want YYYY-MM-DD HH:MM:SS before the text", frame)
	}
	return nil
}

// hearsNothing checks that no frame arrives for a while. The connection cannot be used afterwards,
// because the library closes it after a read that timed out.
func (m *member) hearsNothing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	if frame, err := m.hear(ctx); err == nil {
		return fmt.Errorf("got %q, want nothing", frame)
	} else if code := websocket.CloseStatus(err); code >= 0 {
		return fmt.Errorf("got closed with %d, want nothing", code)
	}
	return nil
}

// frame is the part of a server's JSON frame that smoke uses.
type frame struct {
	ID    int
	Hello *struct{ Resume string }
	OK    *struct {
		Seq       uint64
		Duplicate bool
		Count     int
		Members   []struct{ ID, Name string }
	}
	Error *struct{ Code, Message string }
	Seq   uint64
	Text  string
}

// until reads frames until fits returns true for a frame, and returns this frame.
func (m *member) until(ctx context.Context, fits func(frame) bool) (frame, error) {
	for {
		text, err := m.hear(ctx)
		if err != nil {
			return frame{}, err
		}
		var f frame
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			return f, fmt.Errorf("read %q: %w", text, err)
		}
		if f.Error != nil {
			return f, fmt.Errorf("refused as %s: %s", f.Error.Code, f.Error.Message)
		}
		if fits(f) {
			return f, nil
		}
	}
}

// ask sends a command and waits for its answer.
func (m *member) ask(ctx context.Context, id int, verb string, args map[string]any) (frame, error) {
	b, err := json.Marshal(map[string]any{"id": id, verb: args})
	if err != nil {
		return frame{}, err
	}
	if err := m.say(ctx, string(b)); err != nil {
		return frame{}, err
	}
	return m.until(ctx, func(f frame) bool { return f.ID == id && f.OK != nil })
}
