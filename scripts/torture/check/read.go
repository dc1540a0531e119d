package check

import "roomcast/scripts/torture/history"

// text is the position of a text session in a room. The lines that a text session receives have no
// seq, so the checker finds their messages in the log by the keys.
type text struct {
	open bool
	last uint64 // seq of the last received message; 0 = nothing received yet, or a fault destroyed the message
	era  int    // the era of last; see losses.era
}

// text checks an entry of a text session.
func (c *checker) text(e history.Entry) {
	p := seat{e.Client, e.Room}
	t := c.texts[p]
	if t == nil {
		t = &text{}
		c.texts[p] = t
	}
	switch e.Op {
	case history.TextOpen:
		*t = text{open: true}
	case history.TextEnd:
		t.open = false
	case history.TextRecv:
		c.textRecv(t, e)
	}
}

func (c *checker) textRecv(t *text, e history.Entry) {
	r, l := c.report, c.room(e.Room)
	r.TextDeliveries++
	seq, era := l.byKey[e.Key], c.losses.era(e.T)
	if c.first.moved(e.Key, seq) && c.losses.after(e.T, history.LossEnd, history.LossAll, history.LossHole, history.LossStart, history.LossShown) {
		seq = 0 // the message was stored twice under different seqs, and its text does not show which of the two this is
	}
	truth, _ := l.at(seq)
	last := t.last
	if t.era != era || era < 0 {
		last = 0
	}
	t.last, t.era = seq, era
	switch {
	case seq == 0 && c.losses.after(e.T, history.LossEnd, history.LossAll, history.LossHole, history.LossStart, history.LossShown):
	case seq == 0:
		r.add(Phantom, "the text session %s receives %q in %s, which the log does not have", e.Client, e.Key, e.Room)
	case truth.body != e.Body || truth.kind != "":
		r.add(Phantom, "the text session %s receives %s in %s with another content than the log has", e.Client, e.Key, e.Room)
	case last == 0:
	case seq == last:
		r.add(Duplicate, "the text session %s receives event %d of %s twice", e.Client, seq, e.Room)
	case seq < last:
		r.add(Reorder, "the text session %s receives event %d of %s after %d", e.Client, seq, e.Room, last)
	default:
		c.between(l, last, seq, e)
	}
}

// between checks that the log has no message between last and seq, because a text session received
// these two one after the other.
func (c *checker) between(l *log, last, seq uint64, e history.Entry) {
	for at := last + 1; at < seq; at++ {
		switch missed, ok := l.at(at); {
		case ok && missed.kind == "closed":
			c.report.add(AfterClose, "the text session %s receives event %d of %s, which %d had closed", e.Client, seq, e.Room, at)
			return
		case ok && missed.kind == "", !ok && !c.losses.after(0, history.LossHole, history.LossStart, history.LossAll):
			c.report.add(Skip, "the text session %s receives event %d of %s after %d", e.Client, seq, e.Room, last)
			return
		}
	}
}

// textCaughtUp checks that a text session has received the newest message.
func (c *checker) textCaughtUp(p seat, t *text) {
	l := c.room(p.room)
	if !t.open || t.last == 0 {
		return
	}
	for seq := l.head(); seq > t.last; seq-- {
		if e, ok := l.at(seq); ok && e.kind == "" {
			c.report.add(Stuck, "the text session %s has received %s up to %d of %d", p.client, p.room, t.last, seq)
			return
		}
	}
}

// page is a page of history that a client has read.
type page struct {
	asked history.Entry
	last  uint64
	first bool // the client has read no event of the page yet
}

// page checks the entries of a page: the request for it, and then its events.
func (c *checker) page(e history.Entry) {
	p, r, l := c.pages[e.Client], c.report, c.room(e.Room)
	if e.Op == history.Page {
		if p != nil {
			c.endOfPage(p)
		}
		r.Pages++
		c.pages[e.Client] = &page{asked: e, first: true}
		return
	}
	if p == nil || p.asked.Link != e.Link {
		r.add(Broken, "%s reads an event of page %d of %s, which it has not asked for", e.Client, e.Link, e.Room)
		return
	}
	c.shown(e, BadResume)
	due := p.last + 1
	if p.first {
		due = e.Seq
		if p.asked.From != nil && p.asked.Why != "reset" {
			due = *p.asked.From + 1
		}
	}
	if e.Seq < due || e.Seq > due && !c.losses.mayLack(l, due, e.Seq-1, e.T) {
		r.add(BadResume, "%s reads event %d of %s instead of %d", e.Client, e.Seq, e.Room, due)
	}
	p.last, p.first = e.Seq, false
}

// endOfPage checks a page that a client requested with the parameter before: it must end with the
// event right before that seq.
func (c *checker) endOfPage(p *page) {
	a := p.asked
	if a.To > 1 && p.last+1 != a.To && !c.losses.mayLack(c.room(a.Room), p.last+1, a.To-1, a.T) {
		c.report.add(BadResume, "%s reads %s before %d and is given nothing after %d", a.Client, a.Room, a.To, p.last)
	}
}

// count compares the number of members in an answer with the number that the room has.
func (c *checker) count(e history.Entry) {
	c.report.Counts++
	if want := present(c.cursors, c.texts)[e.Room]; e.Count != want {
		c.report.add(Presence, "%s reads that %s has %d members, it has %d", e.Client, e.Room, e.Count, want)
	}
}

// told is called when the clients have had time to catch up. It looks at the last notice of a join
// or a leave that each member has received. This notice must have the right number of members.
func (c *checker) told() {
	present, newest := present(c.cursors, c.texts), map[string]int64{}
	for p, m := range c.cursors {
		newest[p.room] = max(newest[p.room], m.joined)
	}
	for p, m := range c.cursors {
		if m.state != in || m.told == 0 && m.joined == newest[p.room] {
			continue // the newest member may not receive the notice of its own join
		}
		if c.report.Counts++; m.told != present[p.room] {
			c.report.add(Presence, "the last count that %s received for %s is %d, there are %d", p.client, p.room, m.told, present[p.room])
		}
	}
}

// present returns how many members each room has.
func present(cursors map[seat]*cursor, texts map[seat]*text) map[string]int {
	n := map[string]int{}
	for p, m := range cursors {
		if m.state == in {
			n[p.room]++
		}
	}
	for p, t := range texts {
		if t.open {
			n[p.room]++
		}
	}
	return n
}
