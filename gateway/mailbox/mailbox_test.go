package mailbox_test

import (
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
