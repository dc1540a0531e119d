package hub

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"roomcast/gateway/follow"
	"roomcast/gateway/loop"
	"roomcast/gateway/reads"
	"roomcast/proto"
	"roomcast/proto/history"
)

// sink is a loop whose sockets accept all bytes at no cost. So the benchmark measures only the
// hub.
type sink struct{}

func (s *sink) Write(_ loop.ID, p []byte) int { return len(p) }
func (s *sink) Wake()                         {}
func (s *sink) Now() time.Time                { return time.Time{} }

func (s *sink) Follow(_ proto.Room, _ follow.Follower, ready func(history.Head, error)) {
	ready(history.Head{}, nil)
}
func (s *sink) Unfollow(proto.Room, follow.Follower)               {}
func (s *sink) Read(_ history.Query, done func(reads.Page, error)) { done(reads.Page{}, nil) }
func (s *sink) OnNotice(loop.ID, Notice)                           {}

// BenchmarkFanOut measures the cost in the hub of sending one event to all members of a room.
// Divide it by the number of members to get the cost of one delivery.
func BenchmarkFanOut(b *testing.B) {
	for _, members := range []int{10, 100, 2000} {
		for _, format := range []Format{Text, JSON} {
			b.Run(fmt.Sprintf("members=%d/format=%d", members, format), func(b *testing.B) {
				s := new(sink)
				cfg := testConfig()
				h := New(cfg, s, s, s)
				room := proto.MustRoom("bench")
				for slot := range loop.ID(members) {
					h.Open(1<<32|slot, format)
					h.Join(1<<32|slot, room, proto.From{})
				}
				for range 3 {
					for h.Flush(1 << 20) {
					}
				}
				e := proto.Event{Room: room, At: time.Unix(0, 0), From: proto.Identity{ID: "anon-abcdefghijklmnop"},
					Content: proto.Content{Kind: proto.Text, Body: bytes.Repeat([]byte("x"), 128)}}
				b.ReportAllocs()
				seq := uint64(0)
				for b.Loop() {
					seq++
					e.Seq = seq
					h.intake.Deliver(follow.Delivery{Room: room, Seq: seq, Stamp: "2026-11-22 18:53:07", JSON: e.AppendJSON(nil), Text: spanOf(e.AppendJSON(nil))})
					for h.Flush(256) {
					}
				}
				if got := h.stats.Deliveries.Load(); got != seq*uint64(members) {
					b.Fatalf("got %d deliveries, want %d", got, seq*uint64(members))
				}
			})
		}
	}
}
