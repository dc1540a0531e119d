package proto

import (
	"errors"
	"strings"
	"testing"
)

// hostile are names that must never reach a subject.
var hostile = []string{
	"", " ", "*", ">", "a.*", "room.*", "a.b", ".", "..", "a..b", ".a", "a.", "$SYS", "_INBOX.x", "a b", "a\tb",
	"a\r\nPUB x 1", "a\nb", "a\x00b", "\x00", "\xff\xfe", "a\xc3", "a*", "a>b", "a/b", "../etc", "a\\b", "a-b", "a@b", "a#b", "a?b",
	"a%2Eb", "<script>", "a'b", `a"b`, "a\u00a0b", "a\u202eb", "a\u200db", "e\u0301", "🙂", "a\x7f", "\ufeffa", "हिन्दी",
	strings.Repeat("a", MaxRoomRunes+1), strings.Repeat("聊", MaxRoomRunes+1), strings.Repeat("a", 5000), strings.Repeat("𝒜", 51),
}

func TestParseRoomRefusesHostileNames(t *testing.T) {
	if len(hostile) < 40 {
		t.Fatalf("got %d hostile names, want at least 40", len(hostile))
	}
	for _, name := range hostile {
		r, err := ParseRoom(name)
		if !errors.Is(err, ErrRoomName) || !r.IsZero() {
			t.Errorf("ParseRoom(%.20q) = %v, %v; want a refusal", name, r, err)
		}
		if len(name) > 8 && err != nil && strings.Contains(err.Error(), name) {
			t.Errorf("ParseRoom(%.20q) repeats the name in its error", name)
		}
	}
}

func TestParseRoomTakesEveryScript(t *testing.T) {
	for _, name := range []string{
		"123", "lobby", "聊天室1", "Комната_7", "غرفة", "部屋", "한국", "ΑΒΓ", "x", "_", "٣", "½", "Ⅷ",
		"in", "log", "own", "out", strings.Repeat("a", MaxRoomRunes), strings.Repeat("聊", MaxRoomRunes), strings.Repeat("𝒜", 50),
	} {
		r, err := ParseRoom(name)
		if err != nil || r.String() != name {
			t.Errorf("ParseRoom(%q) = %q, %v", name, r, err)
		}
	}
}

// The expected numbers are what a NATS server's partition(64,1) answered.
func TestPartitionIsFNV1a(t *testing.T) {
	for name, want := range map[string]int{"lobby": int(fnv1a("lobby") % 64), "a": 0xe40c292c % 64, "foobar": 0xbf9cf968 % 64} {
		if got := MustRoom(name).Partition(); got != want {
			t.Errorf("Partition(%q) = %d, want %d", name, got, want)
		}
	}
}

func fnv1a(s string) uint32 {
	h := uint32(2166136261)
	for _, c := range []byte(s) {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}

func TestRoomOfSubject(t *testing.T) {
	r := MustRoom("聊天室1")
	for _, s := range []string{r.Subject(), r.LogSubject(), r.OutSubject(), r.EphemeralSubject(), r.WhoSubject(), strings.Replace(InSubject(r.Partition()), "*", r.String(), 1)} {
		if got, err := RoomOfSubject(s); err != nil || got != r {
			t.Errorf("RoomOfSubject(%q) = %v, %v; want %v", s, got, err, r)
		}
	}
	for _, s := range []string{"", "room", "room.", "rooms.a", "room.own.3", "room.log.x.a", "room.log.64.a", "room.log.0.a.b", "room.log.1." + r.String() + "x", "$JS.API.INFO"} {
		if got, err := RoomOfSubject(s); err == nil {
			t.Errorf("RoomOfSubject(%q) = %v, want an error", s, got)
		}
	}
}
