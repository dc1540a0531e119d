package console

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"roomcast/proto"
)

// The answer to a message is lost. Then the gateway refuses the message, because the sender has lost
// the right. The gateway checks the right before anybody looks for the key, so the first message may
// be stored.
func TestSayDoesNotTakeALateRefusalForCertain(t *testing.T) {
	var asked atomic.Int64
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			panic(http.ErrAbortHandler) // breaks the connection
		}
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"error":{"code":"forbidden","message":"you need the right say"}}`)
	}))
	defer gateway.Close()
	to := target{url: gateway.URL, token: "a-token"}
	say := func() string {
		err := to.say(t.Context(), io.Discard, io.Discard, proto.MustRoom("lobby"), "", strings.NewReader("hello"))
		if err == nil {
			t.Fatal("got no error")
		}
		return err.Error()
	}
	if got := say(); !strings.Contains(got, "may be stored") {
		t.Errorf("after a lost answer: got %q, want that the message may be stored", got)
	}
	if got := say(); strings.Contains(got, "may be stored") {
		t.Errorf("at the first attempt: got %q, want only the refusal", got)
	}
}

// The gateway receives the message again and again, but never answers.
func TestSayWithoutAnyAnswerDoesNotHideThatTheMessageMayBeStored(t *testing.T) {
	gateway := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer gateway.Close()
	ctx, cancel := context.WithTimeout(t.Context(), answerTime+time.Second)
	defer cancel()
	to := target{url: gateway.URL, token: "a-token"}
	err := to.say(ctx, io.Discard, io.Discard, proto.MustRoom("lobby"), "", strings.NewReader("hello"))
	if err == nil || !strings.Contains(err.Error(), "may be stored") {
		t.Errorf("got %v, want that the message may be stored", err)
	}
}
