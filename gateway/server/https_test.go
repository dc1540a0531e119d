package server_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"roomcast/gateway/server/servertest"
)

// With --https-cert, the gateway serves the page, the API and rooms only over TLS.
func TestHTTPSServesOnlyTLS(t *testing.T) {
	// The test borrows a certificate for 127.0.0.1 from a test server of the standard library.
	lender := httptest.NewTLSServer(http.NotFoundHandler())
	defer lender.Close()
	cert, key := certificateFiles(t, lender.TLS.Certificates[0])
	base := servertest.Serve(t, "--https-cert", cert, "--https-key", key)
	if !strings.HasPrefix(base, "https://127.0.0.1:") {
		t.Fatalf("the banner says %s", base)
	}
	client := lender.Client()
	resp, err := client.Get(base)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || !strings.Contains(string(body), "<html") {
		t.Errorf("got %d %.100q, want the page", resp.StatusCode, body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, strings.Replace(base, "https", "wss", 1)+"room/lobby/", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	servertest.Send(t, conn, "encrypted")
	servertest.Hear(t, conn, " encrypted")
	if resp, err := http.Get(strings.Replace(base, "https", "http", 1)); err == nil {
		resp.Body.Close()
		if resp.StatusCode == 200 {
			t.Error("the page is served without encryption too")
		}
	}
}
