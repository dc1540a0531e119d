// Command login is a backend that tells gateways who the user of a browser is. Over NATS, a gateway
// asks whether a client may connect, and this program answers by the cookie of the application. The
// README of the examples shows how to start it. Any number of these programs may run, because the
// queue group "login" gives each question to one of them.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/nats-io/nats.go"
)

// users maps the value of the cookie "session" to the logged-in user. A real application looks it
// up in its store of sessions.
var users = map[string]string{"a1": "ann", "b2": "ben"}

func main() {
	url := flag.String("nats", nats.DefaultURL, "connect to this NATS `server`")
	file := flag.String("password-file", "password", "log in to NATS with the password in this `file`")
	flag.Parse()
	password, err := os.ReadFile(*file)
	if err != nil {
		log.Fatal(err)
	}
	nc, err := nats.Connect(*url, nats.UserInfo("login", string(bytes.TrimSpace(password))),
		nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := nc.QueueSubscribe("room.ask.connect", "login", answer); err != nil {
		log.Fatal(err)
	}
	if err := nc.FlushTimeout(time.Minute); err != nil {
		log.Fatal(err)
	}
	fmt.Println("login answers")
	select {}
}

// roomcast begins

// answer answers one question. Each user may read and send messages in the lobby and in a room of
// their own. The answer is valid for an hour: when the client reconnects within that time, the
// gateway does not ask again.
func answer(m *nats.Msg) {
	var question struct{ Headers map[string]string }
	if err := json.Unmarshal(m.Data, &question); err != nil {
		return
	}
	reply := map[string]any{"allow": false, "why": "log in first"}
	cookies, _ := http.ParseCookie(question.Headers["Cookie"])
	for _, c := range cookies {
		if user := users[c.Value]; c.Name == "session" && user != "" {
			reply = map[string]any{
				"allow": true, "id": user, "until": time.Now().Add(time.Hour),
				"rooms": map[string]string{"lobby": "read say", "user:{id}": "read say"},
			}
		}
	}
	if b, err := json.Marshal(reply); err == nil {
		m.Respond(b)
	}
}

// roomcast ends
