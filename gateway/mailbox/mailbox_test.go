package mailbox_test

import (
	"slices"
	"sync"
	"testing"

	"roomcast/gateway/mailbox"
)

func TestReaderTakesItemsOfEachWriterInOrder(t *testing.T) {
	box := mailbox.New[[2]int]()
	const writers, each = 4, 1000
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				if !box.Put([2]int{w, i}) {
					t.Error("an open box refused an item")
				}
			}
		})
	}
	var next [writers]int
	var batch [][2]int
	for taken := 0; taken < writers*each; {
		<-box.Wake()
		batch = box.Take(batch)
		for _, item := range batch {
			if w, i := item[0], item[1]; i != next[w] {
				t.Fatalf("writer %d: got item %d, want %d", w, i, next[w])
			}
			next[item[0]]++
			taken++
		}
	}
	writing.Wait()
}

func TestClosedBoxKeepsNothing(t *testing.T) {
	box := mailbox.New[int]()
	box.Put(1)
	if left := box.Close(); len(left) != 1 || left[0] != 1 {
		t.Errorf("Close returned %v, want [1]", left)
	}
	if box.Put(2) {
		t.Error("a closed box accepted an item")
	}
	if left := box.Take(nil); len(left) != 0 {
		t.Errorf("a closed box holds %v", left)
	}
}

func TestOfferRefusesItemsAboveTheLimit(t *testing.T) {
	box := mailbox.NewBounded[string](10, func() {})
	for _, step := range []struct {
		item   string
		weight int
		fits   bool
	}{{"a", 6, true}, {"b", 5, false}, {"c", 4, true}, {"d", 1, false}, {"e", 0, true}} {
		if got := box.Offer(step.item, step.weight); got != step.fits {
			t.Errorf("Offer %s with weight %d: got %v, want %v", step.item, step.weight, got, step.fits)
		}
	}
	if got, want := box.Take(nil), []string{"a", "c", "e"}; !slices.Equal(got, want) {
		t.Errorf("Take returned %v, want %v", got, want)
	}
	if !box.Offer("f", 11) {
		t.Error("an empty box refuses a heavy item, so it would never be taken")
	}
}

func TestOnlyTheFirstItemWakesTheReader(t *testing.T) {
	wakes := 0
	box := mailbox.NewBounded[int](100, func() { wakes++ })
	for range 3 {
		box.Offer(1, 1)
	}
	box.Take(nil)
	if !box.Empty() {
		t.Error("a box is not empty after Take")
	}
	box.Offer(1, 1)
	if box.Empty() {
		t.Error("a box with an item is empty")
	}
	if wakes != 2 {
		t.Errorf("got %d wake-ups for two batches", wakes)
	}
}
