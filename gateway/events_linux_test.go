package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/coder/websocket"

	"roomcast/gateway/server/servertest"
	"roomcast/proto/natstest"
	"roomcast/roomsvc/service"
)

// application is a webhook receiver. It is safe for concurrent use.
type application struct {
	t    *testing.T
	url  string
	file string // the file that contains the secret

	mu     sync.Mutex          // guards the fields below
	events []string            // without their times
	people map[string][]string // the people in each room, by the events so far
}

func newApplication(t *testing.T) *application {
	a := &application{t: t, people: make(map[string][]string)}
	a.file = servertest.File(t, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	a.url = s.URL
	return a
}

// person is the object in an event about people.
type person struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Reason  string   `json:"reason"`
	Count   int      `json:"count"`
	Members []person `json:"members"`
}

func (a *application) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var batch struct {
		Events []struct {
			Type string
			Data map[string]json.RawMessage
		}
	}
	if err == nil {
		err = json.Unmarshal(body, &batch)
	}
	if err != nil {
		a.t.Errorf("got %q: %v", body, err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range batch.Events {
		var who person
		if raw := e.Data[e.Type]; raw != nil {
			if err := json.Unmarshal(raw, &who); err != nil {
				a.t.Errorf("got %s: %v", body, err)
			}
		}
		room := string(e.Data["room"])
		a.events = append(a.events, strings.TrimSpace(fmt.Sprint(e.Type, " ", who.Name, " ", who.Count)))
		here := a.people[room]
		switch e.Type {
		case "joined":
			here = append(here, who.Name)
		case "left":
			here = slices.DeleteFunc(slices.Clone(here), func(name string) bool { return name == who.Name })
		case "present":
			here = nil
			for _, m := range who.Members {
				here = append(here, m.Name)
			}
		}
		slices.Sort(here)
		a.people[room] = here
	}
}

// received returns the events that the application has received so far.
func (a *application) received() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.events)
}

// awaitPeople waits until the application has learned from events that exactly these people are in
// a room.
func (a *application) awaitPeople(room string, people ...string) {
	a.t.Helper()
	natstest.Eventually(a.t, fmt.Sprint("the people ", people, " in ", room), func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return slices.Equal(a.people[`"`+room+`"`], people)
	})
}

func (a *application) flags() []string {
	return []string{"--webhook", a.url, "--webhook-secret-file", a.file, "--webhook-events", "joined,left,occupied,vacated,present"}
}

// enter joins a room under a name and waits for the hello. From then on it answers pings.
func enter(t *testing.T, base, room, name string) *websocket.Conn {
	t.Helper()
	conn := servertest.Join(t, base, "room/"+room+"/?name="+name, "roomcast.v1")
	servertest.Next(t, conn)
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			if _, _, err := conn.Read(context.Background()); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		conn.CloseNow()
		reading.Wait()
	})
	return conn
}

// In the standalone form with either carrier, an application learns who joins and leaves. After a
// kill of the process it learns that the room is empty, although no member has left.
func TestApplicationLearnsWhoIsThere(t *testing.T) {
	for _, carrier := range []string{"direct", "nats"} {
		t.Run(carrier, func(t *testing.T) {
			app := newApplication(t)
			args := append(app.flags(), "--data-dir", t.TempDir(), "--sync", "1s", "--carrier", carrier)
			if carrier == "nats" { // this run also tests sealed payloads
				args = append(args, "--encryption-key-file", servertest.File(t, strings.Repeat("0123456789abcdef", 4)))
			}
			p := launch(t, nil, `exec "$@"`, args...)
			zoe := enter(t, p.base, "lobby", "zoe")
			app.awaitPeople("lobby", "zoe") // now the room service knows the people in the room
			zoe.Close(websocket.StatusNormalClosure, "")
			app.awaitPeople("lobby")
			ann := enter(t, p.base, "lobby", "ann")
			app.awaitPeople("lobby", "ann")
			bob := enter(t, p.base, "lobby", "bob")
			app.awaitPeople("lobby", "ann", "bob")
			ann.Close(websocket.StatusNormalClosure, "")
			app.awaitPeople("lobby", "bob")
			bob.Close(websocket.StatusNormalClosure, "")
			app.awaitPeople("lobby")
			want := []string{"occupied  1", "joined ann 1", "joined bob 2", "left ann 1", "left bob 0", "vacated  0"}
			natstest.Eventually(t, "the end of the room", func() bool {
				got := app.received()
				return slices.Contains(got, "left bob 0") && got[len(got)-1] == "vacated  0"
			})
			if got := app.received(); !slices.Equal(got[max(0, len(got)-len(want)):], want) {
				t.Errorf("got %q, want %q", got, want)
			}

			enter(t, p.base, "lobby", "carol")
			enter(t, p.base, "other", "dave")
			app.awaitPeople("lobby", "carol")
			app.awaitPeople("other", "dave")
			if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-p.done
			p = launch(t, nil, `exec "$@"`, args...)
			enter(t, p.base, "other", "erin")
			app.awaitPeople("lobby")
			app.awaitPeople("other", "erin")
		})
	}
}

// When a gateway is killed, the application learns that the people on this gateway have left.
// The people on another gateway stay. When another instance of the room service takes over, all
// people stay.
func TestApplicationLearnsOfADeadGateway(t *testing.T) {
	app := newApplication(t)
	ns := natstest.Start(t)
	tell := func(c *service.Config) {
		c.Sync = "1s"
		c.Events.Webhooks, c.Events.SecretFiles = []string{app.url}, []string{app.file}
	}
	stop := serveRooms(t, ns.Dial, tell)
	line := "exec gateway --listen 127.0.0.1:0 --ops-listen off --drain-time 50ms --nats " + ns.ClientURL()
	first, second := launch(t, nil, line), launch(t, nil, line)
	ann := enter(t, first.base, "lobby", "ann")
	enter(t, second.base, "lobby", "bob")
	enter(t, second.base, "other", "carol")
	app.awaitPeople("lobby", "ann", "bob")
	app.awaitPeople("other", "carol")
	serveRooms(t, ns.Dial, tell)
	stop()
	ann.Close(websocket.StatusNormalClosure, "")
	enter(t, first.base, "lobby", "dave")
	app.awaitPeople("lobby", "bob", "dave")
	if err := second.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	app.awaitPeople("lobby", "dave")
	app.awaitPeople("other")
}
