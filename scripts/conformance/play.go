package main

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"roomcast/proto"
)

// player runs one scenario. It belongs to one goroutine.
type player struct {
	limit  time.Duration
	board  *board
	server *server
	driver *driver

	links int            // number of connections so far
	link  *link          // the newest connection
	last  map[string]any // the client's last command that a step has taken
}

// play runs a scenario with a new client. The transcript lists the steps and the frames.
func play(s scenario, command []string, limit time.Duration) (transcript []string, err error) {
	p := &player{limit: limit, board: newBoard()}
	defer func() { transcript = p.board.transcript }()
	p.server = newServer(p.board)
	defer func() {
		close(p.server.ended)
		p.server.CloseClientConnections()
		if p.link != nil {
			p.link.conn.Close()
		}
		p.server.Close()
		p.server.links.Wait()
	}()
	if p.driver, err = startDriver(command, p.board); err != nil {
		return nil, err
	}
	for _, step := range s.steps {
		if err := p.step(step); err != nil {
			p.driver.kill()
			if lack := (*lacking)(nil); errors.As(err, &lack) {
				return nil, err
			}
			return nil, fmt.Errorf("%s\n     %w", step.line, err)
		}
	}
	if err := p.driver.close(limit); err != nil {
		return nil, err
	}
	return nil, p.board.rest()
}

func (p *player) step(s step) error {
	p.board.note("> " + s.line)
	object := map[string]any{}
	if s.json != "" {
		var err error
		if object, err = parseObject(s.json); err != nil {
			return err
		}
	}
	verb, argument, _ := strings.Cut(s.verb, " ")
	switch s.actor + " " + verb {
	case "needs " + verb:
		return p.ask(verb)
	case "app ":
		return p.app(object)
	case "sees ":
		_, err := p.board.take("sees", object, p.limit)
		return err
	case "client ":
		return p.hear(object)
	case "client connects":
		return p.accept(object)
	case "client joins": // the step is "client joins again": by a leave and a join, or on a new connection
		return p.rejoin(object)
	case "server ":
		return p.answer(object)
	case "server hello":
		p.hello(object)
	case "server closes":
		code, err := strconv.ParseUint(argument, 10, 16)
		p.link.close(proto.CloseCode(code), "because")
		p.board.begin(nil)
		return err
	case "server drops":
		p.board.begin(nil)
		return p.link.conn.Close()
	case "server falls": // the step is "server falls silent"
		close(p.link.silent)
		p.board.begin(nil)
	case "server refuses":
		return p.refuse(argument)
	default:
		return errors.New("the scenario has a line that the kit does not know")
	}
	return nil
}

// app sends a command of the application to the driver.
func (p *player) app(command map[string]any) error {
	if connect, ok := command["connect"].(map[string]any); ok {
		connect["url"] = "ws" + strings.TrimPrefix(p.server.URL, "http")
	}
	if say, ok := command["say"].(map[string]any); ok {
		p.board.says(say)
	}
	return p.driver.do(command)
}

// lacking is the error of a scenario that needs a capability which the client does not have. The
// kit does not count such a scenario as failed.
type lacking struct{ reason string }

func (l *lacking) Error() string { return l.reason }

// ask asks the driver whether its client has a capability. It returns a *lacking if not.
func (p *player) ask(capability string) error {
	if err := p.driver.do(map[string]any{"can": map[string]any{"capability": capability}}); err != nil {
		return err
	}
	answer, err := p.board.take("sees", map[string]any{"can": map[string]any{"capability": capability}}, p.limit)
	if err != nil {
		return err
	}
	can := answer["can"].(map[string]any) // the pattern has ensured that the field is an object
	if can["ok"] == true {
		return nil
	}
	reason, _ := can["reason"].(string)
	return &lacking{fmt.Sprintf("the client lacks %s: %s", capability, reason)}
}

// hear takes the next frame of the client. The frame must match the pattern.
func (p *player) hear(pattern map[string]any) error {
	frame, err := p.board.take("client", pattern, p.limit)
	if err == nil {
		p.last = frame
	}
	return err
}

func (p *player) next(limit time.Duration) (*attempt, error) {
	select {
	case a := <-p.server.attempts:
		return a, nil
	case <-time.After(limit):
		return nil, fmt.Errorf("waited %v for a connection", limit)
	}
}

// accept waits for a connection and accepts it. The credentials in its handshake must match the
// pattern.
func (p *player) accept(pattern map[string]any) error {
	a, err := p.next(p.limit)
	if err != nil {
		return err
	}
	return p.take(a, pattern)
}

func (p *player) take(a *attempt, pattern map[string]any) error {
	p.board.note("client connects " + compact(a.given))
	a.status <- 0
	if p.link = <-a.link; p.link == nil {
		return errors.New("the client does not offer roomcast.v1")
	}
	p.links++
	for _, kind := range []string{"token", "ticket"} {
		if secret := pattern[kind]; secret != nil && a.given[kind] == nil { // the handshake has no credential, so the client must send it in the first frame
			if _, err := p.board.take("client", map[string]any{"auth": map[string]any{kind: secret}}, p.limit); err != nil {
				return err
			}
			delete(pattern, kind)
		}
	}
	pattern["secrets_in_url"] = nil
	if why := match(pattern, a.given); why != "" {
		return fmt.Errorf("the handshake presents %s: %s", compact(a.given), why)
	}
	return nil
}

func (p *player) refuse(status string) error {
	code, err := strconv.Atoi(status)
	if err != nil {
		return err
	}
	a, err := p.next(p.limit)
	if err == nil {
		a.status <- code
	}
	return err
}

// hello sends the hello frame. The hello has the same identity on all connections, and another
// resume string on each.
func (p *player) hello(more map[string]any) {
	now := time.Now()
	hello := map[string]any{
		"session": fmt.Sprint("s", p.links), "resume": fmt.Sprint("r", p.links), "you": map[string]any{"id": "ann"},
		"time": string(proto.AppendTime(nil, now)),
	}
	maps.Copy(hello, more)
	if seconds, ok := hello["expires"].(float64); ok {
		hello["expires"] = string(proto.AppendTime(nil, now.Add(time.Duration(seconds*float64(time.Second)))))
	}
	p.link.send(map[string]any{"hello": hello})
}

// answer sends a frame. An ok or an error gets the id of the last command that a step has taken.
func (p *player) answer(frame map[string]any) error {
	ok, isOK := frame["ok"].(map[string]any)
	if isOK || frame["error"] != nil {
		if p.last["id"] == nil {
			return errors.New("there is no command to answer")
		}
		frame["id"] = p.last["id"]
	}
	if seconds, timed := ok["expires"].(float64); timed {
		ok["expires"] = string(proto.AppendTime(nil, time.Now().Add(time.Duration(seconds*float64(time.Second)))))
	}
	if key, ok := frame["key"].(string); ok {
		frame["key"] = p.board.keyOf(key)
	}
	p.link.send(frame)
	return nil
}

// rejoin waits until the client joins again, either after a leave or on a new connection.
func (p *player) rejoin(join map[string]any) error {
	pattern := map[string]any{"join": join}
	for began := time.Now(); time.Since(began) < p.limit; {
		if leave, err := p.board.take("client", map[string]any{"leave": map[string]any{}}, 10*time.Millisecond); err == nil {
			p.link.send(map[string]any{"id": leave["id"], "ok": map[string]any{"room": "lobby"}})
		}
		if a, err := p.next(10 * time.Millisecond); err == nil {
			if err := p.take(a, map[string]any{}); err != nil {
				return err
			}
			p.hello(nil)
		}
		if p.board.has("client", pattern) {
			return p.hear(pattern)
		}
	}
	return fmt.Errorf("waited %v for another join", p.limit)
}
