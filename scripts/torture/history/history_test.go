package history

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReadReturnsTheWrittenEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	from := uint64(0)
	want := []Entry{
		{Op: Join, Client: "c1", Link: 2, Room: "聊天室", From: &from},
		{Op: Recv, Client: "c1", Link: 2, Room: "聊天室", Seq: 1, Key: "c2-1", Body: 1<<64 - 1},
	}
	for _, e := range want {
		w.Add(e)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for e, err := range Read(path) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Op != want[n].Op || e.Seq != want[n].Seq || e.Body != want[n].Body || (e.From == nil) != (want[n].From == nil) {
			t.Errorf("got %+v, want %+v", e, want[n])
		}
		n++
	}
	if n != len(want) {
		t.Errorf("got %d entries, want %d", n, len(want))
	}

	if err := os.WriteFile(path, []byte(`{"op":"recv"`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range Read(path) {
		if err == nil {
			t.Error("got no error for a file that is cut short")
		}
	}
}

func TestTextContainsItsKey(t *testing.T) {
	for _, size := range []int{0, 20, 200} {
		text := Text("c1-7", size)
		if KeyOf(text) != "c1-7" || len(text) < size {
			t.Errorf("got %q for %d bytes", text, size)
		}
	}
	if Text("a", 40) == Text("b", 40) {
		t.Error("two keys have the same text")
	}
}
