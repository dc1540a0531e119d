package session_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"roomcast/gateway/limit"
	"roomcast/gateway/session"
	"roomcast/proto"
)

// The client receives the pages one after another, however many it has requested. As long as it
// reads them, the gateway must not close it as slow.
func TestManyPagesRequestedAtOnceAreAnswered(t *testing.T) {
	g := start(t, func(s *settings) { s.loop.Loops = 1; s.session.Rate.PerSecond = 0 })
	room := fmt.Sprintf("pages_%d", time.Now().UnixNano())
	sender := g.json("/room/" + room + "/")
	sender.want(`{"hello":*`)
	g.stuff(sender, room, 20, 30_000)
	for _, n := range []int{2, 8, 40} {
		c := g.json("/room/" + room + "/")
		c.want(`{"hello":*`)
		var all []byte
		for i := range n {
			all = append(all, maskedFrame(0x81, fmt.Sprintf(`{"id":%d,"history":{"room":"%s","before":%d}}`, i, room, 20-i%8))...)
		}
		c.write(all)
		for i := range n {
			got := c.next()
			for strings.HasPrefix(got, `{"room"`) { // the last message, which may arrive late
				got = c.next()
			}
			if want := fmt.Sprintf(`{"id":%d,"ok":{"room":"%s","events":[`, i, room); !strings.HasPrefix(got, want) {
				t.Fatalf("answer %d of %d is %.200s", i, n, got)
			}
		}
	}
}

// The limit of a message is for its text after parsing. So JSON escapes may make the command much
// longer. The command may also arrive in several frames.
func TestMessageMayBeAllEscapes(t *testing.T) {
	both(t, func(t *testing.T, portable func(*settings)) {
		memory := limit.NewBudget(64 << 20)
		g := start(t, portable, func(s *settings) { s.session.Hub.Memory = memory })
		c := g.json("/ws")
		c.want(`{"hello":*`)
		room := fmt.Sprintf("escapes_%d", time.Now().UnixNano())
		for i, tt := range []struct {
			escape string
			bytes  int
			want   string
		}{
			{`\u0061`, 65536, `"ok":{"seq":1,*`},
			{`\u5173`, 65536 / 3, `"ok":{"seq":2,*`},
			{`\n`, 65536, `"ok":{"seq":3,*`},
			{`\n`, 65537, `"error":{"code":"too_large",*`},
			{`\u0061`, 65537, `"error":{"code":"too_large",*`},
			{`\u0001`, 65536, `"error":{"code":"too_large",*`}, // the record in the log needs this escape too
		} {
			frame := fmt.Sprintf(`{"id":%d,"say":{"room":"%s","text":"%s"}}`, i, room, strings.Repeat(tt.escape, tt.bytes))
			half := len(frame) / 2
			c.write(maskedFrame(0x01, frame[:half]))
			c.write(maskedFrame(0x80, frame[half:]))
			c.want(fmt.Sprintf(`{"id":%d,`, i) + tt.want)
		}
		eventually(t, "the memory to be given back", func() bool { return memory.Used(limit.Messages) == 0 })
	})
}

// Frames that are mostly escapes take at most half of the memory for unfinished messages. The
// other half remains for frames of the usual length.
func TestLongFramesLeaveMemoryForOthers(t *testing.T) {
	memory := limit.NewBudget(16 << 20)
	g := start(t, func(s *settings) { s.session.Hub.Memory = memory; s.loop.Loops = 1 })
	closes := func() uint64 {
		return g.sum(func(ss *session.Sessions) uint64 { return ss.Stats().Closes(proto.CloseShed) })
	}
	for range 20 {
		c := g.json("/ws")
		c.want(`{"hello":*`)
		c.write(maskedFrame(0x81, strings.Repeat(" ", 390_000))[:380_000])
	}
	eventually(t, "long frames to be refused", func() bool { return closes() > 0 })
	if used := memory.Used(limit.Messages); used > 5<<20 {
		t.Errorf("long frames take %d bytes, want about a quarter of the budget", used)
	}
	frame := maskedFrame(0x81, `{"id":1,"ping":{}}`+strings.Repeat(" ", 80_000))
	var usual []*client
	for range 10 {
		c := g.json("/ws")
		c.want(`{"hello":*`)
		c.write(frame[:70_000])
		usual = append(usual, c)
	}
	for _, c := range usual {
		c.write(frame[70_000:])
		c.want(`{"id":1,"ok":{}}`)
	}
}

// The memory for unfinished messages and requests is bounded. A connection that exceeds the
// bound is closed with a reason, and the other connections continue.
func TestUnfinishedMessagesAreBounded(t *testing.T) {
	both(t, func(t *testing.T, portable func(*settings)) {
		memory := limit.NewBudget(8 << 20)
		g := start(t, portable, func(s *settings) { s.session.Hub.Memory = memory; s.loop.Loops = 1 })
		room := fmt.Sprintf("half_%d", time.Now().UnixNano())
		var clients []*client
		for range 70 {
			c := g.text("/room/" + room + "/")
			c.write(maskedFrame(0x81, strings.Repeat("x", 60_000))[:40_000])
			clients = append(clients, c)
		}
		closes := func() uint64 {
			return g.sum(func(ss *session.Sessions) uint64 { return ss.Stats().Closes(proto.CloseShed) })
		}
		eventually(t, "sessions to be closed for want of memory", func() bool { return closes() > 0 })
		most := int64(4 << 20)
		if used := memory.Used(limit.Messages); used > most || used < most/2 {
			t.Errorf("%d bytes of unfinished messages are counted, want about %d", used, most)
		}
		last := clients[len(clients)-1]
		last.want("close 4002 *unfinished messages*")
		speaker := g.json("/room/" + room + "/")
		speaker.want(`{"hello":*`)
		speaker.send(`{"id":1,"say":{"text":"hi"}}`)
		for !strings.Contains(speaker.next(), `"ok"`) {
		}
		for _, c := range clients {
			c.nc.Close()
		}
		eventually(t, "the memory to be given back", func() bool { return memory.Used(limit.Messages) == 0 })

		var halves []net.Conn
		for range 250 {
			c := g.connect()
			c.write([]byte("GET /room/lobby/ HTTP/1.1\r\nCookie: " + strings.Repeat("x", 12_000)))
			halves = append(halves, c.nc)
		}
		eventually(t, "requests to be refused for want of memory", func() bool {
			return g.sum(func(ss *session.Sessions) uint64 { return ss.Stats().MemoryCloses.Load() }) > closes()
		})
		if used := memory.Used(limit.Handshakes); used > most {
			t.Errorf("%d bytes of unfinished requests are counted, want at most %d", used, most)
		}
		for _, nc := range halves {
			nc.Close()
		}
		eventually(t, "the memory to be given back", func() bool { return memory.Used(limit.Handshakes) == 0 })
	})
}
