package proto

import (
	"errors"
	"strings"
	"testing"
)

// hostile contains names that must never become part of a subject.
var hostile = []string{
	"", " ", "*", ">", "a.*", "room.*", ".", "..", "a..b", ".a", "a.", "$SYS", "a b", "a\tb",
	"a\r\nPUB x 1", "a\nb", "a\x00b", "\x00", "\xff\xfe", "a\xc3", "a*", "a>b", "a/b", "../etc", "a\\b", "a#b", "a,b", "a!b", "a(b", "a$b", "a&b", "a;b", "a?b",
	"a%2Eb", "<script>", "a'b", `a"b`, "a\u00a0b", "a\u202eb", "a\u200db", "\u0301e", "🙂", "a\x7f", "\ufeffa", "a\u3164", "\u115f", "a\uffa0b", "a\ufe0f", "a\u034fb", "a\u17b4", "a\u180bb", "a%2eb",
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

func TestParseRoomAcceptsEveryScript(t *testing.T) {
	for _, name := range []string{
		"123", "lobby", "聊天室1", "Комната_7", "غرفة", "部屋", "한국", "ΑΒΓ", "x", "_", "٣", "½", "Ⅷ",
		"in", "log", "own", "out", "a.b", "user.42", "org:5", "order-17", "a@b", "=", "-", "~a+b", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
		"हिन्दी", "ห้องแชท", "தமிழ்", "বাংলা", "ကမ္ဘာ", "שָׁלוֹם", "e\u0301", "a.\u0301b", "room.in", strings.Repeat("a", MaxRoomRunes), strings.Repeat("聊", MaxRoomRunes), strings.Repeat("𝒜", 50),
	} {
		r, err := ParseRoom(name)
		if err != nil || r.String() != name {
			t.Errorf("ParseRoom(%q) = %q, %v", name, r, err)
		}
	}
}

// The test in gateway/natsconf_test.go compares Partition with partition(256,1) of a NATS
// server.
func TestPartitionIsFNV1aOfTheToken(t *testing.T) {
	for name, want := range map[string]uint32{
		"lobby": fnv1a("lobby"), "a": 0xe40c292c, "foobar": 0xbf9cf968, "user.42": fnv1a("user%2E42"), "a.b.c": fnv1a("a%2Eb%2Ec"),
	} {
		if got := MustRoom(name).Partition(); got != int(want%Partitions) {
			t.Errorf("Partition(%q) = %d, want %d", name, got, want%Partitions)
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

func TestRoomOfSubjectReadsEverySubject(t *testing.T) {
	r := MustRoom("聊天室1")
	for _, r := range []Room{r, MustRoom("user.42"), MustRoom("a.b.c"), MustRoom("in")} {
		for _, s := range []string{
			r.Subject(), r.LogSubject(), r.OutSubject(), r.EphemeralSubject(), r.WhoSubject(), r.StateSubject(),
			strings.Replace(InSubject(r.Partition()), "*", r.Token(), 1),
		} {
			if got, err := RoomOfSubject(s); err != nil || got != r {
				t.Errorf("RoomOfSubject(%q) = %v, %v; want %v", s, got, err, r)
			}
		}
	}
	for _, s := range []string{"", "room", "room.", "rooms.a", "room.own.3", "room.log.x.a", "room.log.256.a", "room.state.3", "room.a%2eb", "room.a%2E", "room.%2Ea", "room.a%20b", "room.witness.x", "room.log.0.a.b", "room.log.1." + r.String() + "x", "$JS.API.INFO"} {
		if got, err := RoomOfSubject(s); err == nil {
			t.Errorf("RoomOfSubject(%q) = %v, want an error", s, got)
		}
	}
}
