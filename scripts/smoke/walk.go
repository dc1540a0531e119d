package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// walk is one run of smoke. It has the addresses of the two gateways. It also has a random text for
// the names of rooms, so that each run uses other rooms.
type walk struct {
	one, two string
	mark     string
}

func (w *walk) room(name string) string { return name + "_" + w.mark }

// pair connects two text members to the same room.
func (w *walk) pair(ctx context.Context, room string) (a, b *member, err error) {
	if a, err = connect(ctx, w.one, room, ""); err != nil {
		return nil, nil, err
	}
	if b, err = connect(ctx, w.two, room, ""); err != nil {
		a.leave()
		return nil, nil, err
	}
	return a, b, nil
}

// up waits until both gateways answer.
func (w *walk) up(ctx context.Context, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for _, base := range []string{w.one, w.two} {
		for {
			if err := get(ctx, base, "/", nil); err == nil {
				break
			} else if ctx.Err() != nil {
				return fmt.Errorf("nothing answers at %s: %w", base, err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}

// get requests a path and checks the body of a 200 answer.
func get(ctx context.Context, base, path string, check func(body string) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusForbidden {
		return skip(strings.TrimSpace(string(body)))
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: got %s: %s", path, resp.Status, body)
	}
	if check == nil {
		return nil
	}
	return check(string(body))
}

func contains(part string) func(string) error {
	return func(body string) error {
		if !strings.Contains(body, part) {
			return fmt.Errorf("got %.200q, want it to contain %q", body, part)
		}
		return nil
	}
}

func (w *walk) page(ctx context.Context) error {
	return errors.Join(
		get(ctx, w.one, "/", contains("<html")),
		get(ctx, w.two, "/room.js", contains("export")),
	)
}

func (w *walk) text(ctx context.Context) error {
	a, b, err := w.pair(ctx, w.room("聊天室1"))
	if err != nil {
		return err
	}
	defer a.leave()
	defer b.leave()
	other, err := connect(ctx, w.two, w.room("聊天室2"), "")
	if err != nil {
		return err
	}
	defer other.leave()
	if err := a.say(ctx, "你好"); err != nil {
		return err
	}
	if err := errors.Join(a.hears(ctx, "你好"), b.hears(ctx, "你好")); err != nil {
		return err
	}
	if err := b.say(ctx, "hello to you"); err != nil {
		return err
	}
	return errors.Join(a.hears(ctx, "hello to you"), b.hears(ctx, "hello to you"), other.hearsNothing(ctx))
}

func (w *walk) closeWord(ctx context.Context) error {
	a, b, err := w.pair(ctx, w.room("close"))
	if err != nil {
		return err
	}
	defer a.leave()
	defer b.leave()
	if err := a.say(ctx, "关闭"); err != nil {
		return err
	}
	if frame, err := a.hear(ctx); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		return fmt.Errorf("the sender got %q, %v, want to be closed with 1000", frame, err)
	}
	if err := b.say(ctx, "still here"); err != nil {
		return err
	}
	return b.hears(ctx, "still here")
}

func (w *walk) replay(ctx context.Context) error {
	room := w.room("replay")
	a, err := connect(ctx, w.one, room, "")
	if err != nil {
		return err
	}
	defer a.leave()
	for i := 1; i <= 5; i++ {
		text := fmt.Sprintf("message %d", i)
		if err := a.say(ctx, text); err != nil {
			return err
		}
		if err := a.hears(ctx, text); err != nil {
			return err
		}
	}
	for query, first := range map[string]int{"last=2": 4, "since=3": 4, "since=0": 1} {
		b, err := connect(ctx, w.two, room, query)
		if err != nil {
			return err
		}
		for i := first; i <= 5; i++ {
			if err := b.hears(ctx, fmt.Sprintf("message %d", i)); err != nil {
				b.leave()
				return fmt.Errorf("with %s: %w", query, err)
			}
		}
		b.leave()
	}
	return nil
}

func (w *walk) exactlyOnce(ctx context.Context) error {
	room := w.room("once")
	a, err := connect(ctx, w.one, room, "", "roomcast.v1")
	if err != nil {
		return err
	}
	defer a.leave()
	hello, err := a.until(ctx, func(f frame) bool { return f.Hello != nil })
	if err != nil {
		return err
	}
	first, err := a.ask(ctx, 1, "say", map[string]any{"text": "once", "key": w.mark})
	if err != nil {
		return err
	}
	// The same sender connects to the other gateway and sends its last message again.
	b, err := connect(ctx, w.two, room, "since=0", "roomcast.v1", "resume."+hello.Hello.Resume)
	if err != nil {
		return err
	}
	defer b.leave()
	if _, err := b.until(ctx, func(f frame) bool { return f.Text == "once" }); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	again, err := b.ask(ctx, 2, "say", map[string]any{"text": "once", "key": w.mark})
	if err != nil {
		return err
	}
	if again.OK.Seq != first.OK.Seq || !again.OK.Duplicate {
		return fmt.Errorf("got seq %d, duplicate %v, want %d, true", again.OK.Seq, again.OK.Duplicate, first.OK.Seq)
	}
	return nil
}

func (w *walk) members(ctx context.Context) error {
	room := w.room("members")
	a, err := connect(ctx, w.one, room, "name=Ann", "roomcast.v1")
	if err != nil {
		return err
	}
	defer a.leave()
	b, err := connect(ctx, w.two, room, "name=Bo", "roomcast.v1")
	if err != nil {
		return err
	}
	defer b.leave()
	for id := 1; ; id++ {
		f, err := a.ask(ctx, id, "members", map[string]any{})
		if err != nil {
			return err
		}
		if f.OK.Count == 2 && len(f.OK.Members) == 2 {
			return nil
		}
		select { // gateways may need a second to agree about the members
		case <-ctx.Done():
			return fmt.Errorf("got %d members %v, want Ann and Bo", f.OK.Count, f.OK.Members)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (w *walk) origin(ctx context.Context) error {
	address := strings.Replace(w.one, "http", "ws", 1)
	header := http.Header{"Origin": {"https://evil.example.org"}}
	conn, resp, err := websocket.Dial(ctx, strings.TrimSuffix(address, "/")+"/room/lobby/", &websocket.DialOptions{HTTPHeader: header})
	if err == nil {
		conn.CloseNow()
		return errors.New("the gateway accepted it")
	}
	if resp == nil || resp.StatusCode != http.StatusForbidden {
		return fmt.Errorf("got %v, want 403", err)
	}
	return nil
}

func (w *walk) api(ctx context.Context) error {
	path := "/api/rooms/" + w.room("api") + "/messages"
	if err := get(ctx, w.one, path, nil); err != nil {
		return err
	}
	resume, err := w.guest(ctx)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(w.one, "/")+path, strings.NewReader("by curl"))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "text/plain")
	req.Header.Set("Roomcast-Resume", resume)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("got %s: %s", resp.Status, body)
	}
	return get(ctx, w.two, path+"?last=1", contains(`"text":"by curl"`))
}

// guest opens a stream of events as a guest, and returns the guest's resume string.
func (w *walk) guest(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(w.one, "/")+"/events?room="+w.room("api"), nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		data, found := strings.CutPrefix(lines.Text(), "data: ")
		if !found {
			continue
		}
		var hello struct{ Hello struct{ Resume string } }
		err := json.Unmarshal([]byte(data), &hello)
		return hello.Hello.Resume, err
	}
	return "", fmt.Errorf("read events: got %s and no hello", resp.Status)
}
