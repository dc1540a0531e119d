package limit

import (
	"context"
	"sync"
	"testing"
)

func TestNoUseTakesMoreThanHalfOfTheBudget(t *testing.T) {
	b := NewBudget(1000)
	if !b.Take(Pages, 500) || b.Take(Pages, 1) {
		t.Error("pages can take more or less than half of the budget")
	}
	if !b.Take(Messages, 400) || b.Take(Handshakes, 101) || !b.Take(Handshakes, 100) {
		t.Error("all uses together can take more or less than the whole budget")
	}
	if !b.Full() {
		t.Error("the budget is not full although all of it is taken")
	}
	b.Add(Rings, 50)
	b.Add(Messages, -400)
	if b.Full() || b.Used(Messages) != 0 || b.Used(Rings) != 50 || b.Used(Pages) != 500 {
		t.Errorf("messages %d, rings %d, pages %d; want 0, 50, 500", b.Used(Messages), b.Used(Rings), b.Used(Pages))
	}
}

func TestAwaitTakesReturnedBytes(t *testing.T) {
	b := NewBudget(100)
	b.Add(Pages, 50)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan bool)
	go func() { got <- b.Await(ctx, Pages, 10) }()
	b.Add(Pages, -10)
	if !<-got || b.Used(Pages) != 50 {
		t.Errorf("%d bytes are taken after waiting, want 50", b.Used(Pages))
	}
	go func() { got <- b.Await(ctx, Pages, 10) }()
	cancel()
	if <-got || b.Used(Pages) != 50 {
		t.Errorf("%d bytes are taken after a wait that ended early, want 50", b.Used(Pages))
	}
}

func TestSharedBudgetLosesNoBytes(t *testing.T) {
	b := NewBudget(1 << 20)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			part := b.Part(Queues)
			for i := range 10_000 {
				if b.Take(Pages, 1+i) {
					b.Add(Pages, -1-i)
				}
				if part.Take(i % 50_000) {
					part.Add(-(i % 50_000))
				}
			}
			if part.Settle(); part.Held() != 0 {
				t.Errorf("a part holds %d bytes after it has returned all", part.Held())
			}
		})
	}
	group.Wait()
	for _, u := range Uses() {
		if n := b.Used(u); n != 0 {
			t.Errorf("%s: %d bytes are left", u, n)
		}
	}
}

func TestPartReportsOnlyLargeChanges(t *testing.T) {
	b := NewBudget(8 * partSlack)
	p := b.Part(Messages)
	if !p.Take(partSlack) || b.Used(Messages) != 0 {
		t.Errorf("the budget was told of %d bytes", b.Used(Messages))
	}
	if !p.Take(1) || b.Used(Messages) != partSlack+1 {
		t.Errorf("the budget was told of %d bytes, want %d", b.Used(Messages), partSlack+1)
	}
	if p.Take(4 * partSlack) {
		t.Error("a part took more than half of the budget")
	}
	if p.Held() != partSlack+1 {
		t.Errorf("a refused take left %d bytes, want %d", p.Held(), partSlack+1)
	}
}
