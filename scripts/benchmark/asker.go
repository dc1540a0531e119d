//go:build linux

package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
)

// asker sends messages to the NATS subjects of rooms, as a gateway does, and receives the acks.
// Each of its senders has one message in flight at a time.
type asker struct {
	nc    *nats.Conn
	sub   *nats.Subscription
	rooms []string // subjects of the rooms
	rate  int      // messages a second; 0 = every sender sends again right after its ack
	quit  chan struct{}
	done  sync.WaitGroup

	mu      sync.Mutex
	msgs    []*nats.Msg // by sender; a sender uses the same NATS message again and again
	sent    []time.Time // by sender: when the message in flight should have been sent
	free    []int       // senders without a message in flight
	next    int         // number of the next message
	oks     int64
	warming int   // number of rooms to which warm has sent no message yet
	again   int64 // messages that were refused and sent again
	late    int64 // messages that were sent late, because all senders waited for acks
	faults  int
	wrong   string
	busy    bool // every sender sends its next message right after its ack
	delay   histogram
}

func newAsker(nc *nats.Conn, rooms, rate int) (*asker, error) {
	a := &asker{nc: nc, rate: rate, quit: make(chan struct{}), sent: make([]time.Time, inFlight)}
	for i := range rooms {
		a.rooms = append(a.rooms, proto.MustRoom(fmt.Sprintf("bench_%d", i)).Subject())
	}
	inbox := nats.NewInbox()
	text := []byte(strings.Repeat("x", messageSize-len(stamp)))
	for i := range inFlight {
		id := "s" + strconv.Itoa(i)
		a.msgs = append(a.msgs, &nats.Msg{Reply: inbox + "." + strconv.Itoa(i), Data: text, Header: nats.Header{
			proto.HeaderKind: {string(proto.Text)}, proto.HeaderFrom: {id}, proto.HeaderName: {"bench"}, proto.HeaderKey: {""},
		}})
		a.free = append(a.free, i)
	}
	var err error
	a.sub, err = nc.Subscribe(inbox+".*", func(m *nats.Msg) { a.answer(len(inbox)+1, m) })
	return a, err
}

// warm sends one message to every room and waits for the acks, with at most inFlight messages at a
// time. Afterwards the owners have all rooms in memory.
func (a *asker) warm() error {
	a.mu.Lock()
	from := a.oks
	for range min(inFlight, len(a.rooms)) {
		a.send(time.Now())
	}
	a.warming = len(a.rooms) - min(inFlight, len(a.rooms))
	a.mu.Unlock()
	for range 3000 {
		if a.acked()-from >= int64(len(a.rooms)) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%d of %d rooms answered within 30 s", a.acked()-from, len(a.rooms))
}

// begin starts the load.
func (a *asker) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.rate > 0 {
		a.done.Add(1)
		go a.pace()
		return
	}
	for a.busy = true; len(a.free) > 0; {
		a.send(time.Now())
	}
}

// pace sends messages at the fixed rate, whether or not acks arrive.
func (a *asker) pace() {
	defer a.done.Done()
	every := time.Second / time.Duration(a.rate)
	for due := time.Now(); ; {
		select {
		case <-a.quit:
			return
		default:
		}
		a.mu.Lock()
		for ; !due.After(time.Now()); due = due.Add(every) {
			if len(a.free) == 0 {
				a.late++
				continue
			}
			a.send(due)
		}
		a.mu.Unlock()
		time.Sleep(time.Until(due))
	}
}

// send lets the first free sender send the next message. The caller holds mu.
func (a *asker) send(due time.Time) {
	i := a.free[0]
	a.free = a.free[1:]
	m := a.msgs[i]
	m.Subject = a.rooms[a.next%len(a.rooms)]
	a.next++
	m.Header[proto.HeaderKey][0] = "k" + strconv.FormatInt(due.UnixNano(), 36) + strconv.Itoa(a.next)
	a.sent[i] = due
	a.publish(i)
}

func (a *asker) publish(i int) {
	if err := a.nc.PublishMsg(a.msgs[i]); err != nil {
		a.fault(err.Error())
	}
}

func (a *asker) answer(at int, m *nats.Msg) {
	i, err := strconv.Atoi(m.Subject[at:])
	if err != nil {
		return
	}
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if retry := number(m.Data, `"retry_ms":`); retry > 0 { // send the message again with the same key, as a gateway does
		a.again++
		time.AfterFunc(time.Duration(retry)*time.Millisecond, func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.publish(i)
		})
		return
	}
	if bytes.HasPrefix(m.Data, []byte(`{"ok"`)) {
		a.oks++
		a.delay.add(now.Sub(a.sent[i]))
	} else {
		a.fault(string(m.Data))
	}
	a.free = append(a.free, i)
	switch {
	case a.warming > 0:
		a.warming--
		a.send(now)
	case a.busy:
		a.send(now)
	}
}

func (a *asker) fault(what string) {
	if a.faults++; a.wrong == "" {
		a.wrong = what
	}
}

// acked returns the number of acknowledged messages.
func (a *asker) acked() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.oks
}

// mark returns the number of acknowledged messages, and clears the recorded delays.
func (a *asker) mark() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.delay = histogram{}
	return a.oks
}

// end stops sending and waits for the acks in flight.
func (a *asker) end() error {
	a.mu.Lock()
	a.busy = false
	a.mu.Unlock()
	close(a.quit)
	a.done.Wait()
	for range 500 {
		a.mu.Lock()
		free, faults, late, again := len(a.free), a.faults, a.late, a.again
		a.mu.Unlock()
		if faults > 0 {
			return fmt.Errorf("%d messages were not acked: %s", faults, a.wrong)
		}
		if free == inFlight {
			if again > 0 {
				note("%d messages were temporarily refused and sent again", again)
			}
			if late > 0 {
				note("%d messages were sent late, because %d were waiting for their acks", late, inFlight)
			}
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("acks are missing after 5 s")
}

func (a *asker) close() { a.sub.Unsubscribe() }
