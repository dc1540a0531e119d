package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gobwas/ws"

	"roomcast/proto"
)

const (
	subprotocol = "roomcast.v1"
	dialTimeout = 10 * time.Second // for connection, handshake and hello together
)

// CloseError says that the server closed the session.
type CloseError struct {
	Code   proto.CloseCode
	Reason string
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("closed with %d (%s): %s", uint16(e.Code), e.Code, e.Reason)
}

// RefusedError says that the server refused to open a session.
type RefusedError struct {
	Status  int // HTTP status
	Message string
	Retry   time.Duration // from the header Retry-After; 0 = the header is absent
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("refused with %d %s: %s", e.Status, http.StatusText(e.Status), e.Message)
}

// reconnect reports whether dialling again after err may succeed.
func reconnect(err error) bool {
	var expired *expiredError
	if errors.As(err, &expired) {
		return false
	}
	var closed *CloseError
	if errors.As(err, &closed) {
		return closed.Code.Reconnect()
	}
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.Status >= 500 || refused.Status == http.StatusTooManyRequests ||
			refused.Status == http.StatusRequestTimeout
	}
	return true
}

func retryAfter(err error) time.Duration {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return min(refused.Retry, time.Minute)
	}
	return 0
}

// sessionURL returns the WebSocket address of a gateway for a JSON session that begins in no room.
// The ticket may be empty.
func sessionURL(base, name, ticket string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("parse URL: %w", err)
	}
	switch u.Scheme {
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	case "ws", "wss":
	default:
		return "", fmt.Errorf("the URL %q is not one of ws, wss, http and https", base)
	}
	q := url.Values{}
	if name != "" {
		q.Set("name", name)
	}
	if ticket != "" { // servers log URLs, but a ticket can be used only once
		q.Set("ticket", ticket)
	}
	u.Path, u.RawQuery = strings.TrimSuffix(u.Path, "/")+"/ws", q.Encode()
	return u.String(), nil
}

func (c *connector) open(ctx context.Context, number int, base, resume string) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	token, ticket, err := c.present(ctx, resume)
	if err != nil {
		return nil, err
	}
	addr, err := sessionURL(base, c.cfg.Name, ticket)
	if err != nil {
		return nil, err
	}
	var refused *RefusedError
	d := ws.Dialer{
		Protocols: []string{subprotocol}, NetDial: c.cfg.NetDial,
		OnStatusError: func(status int, reason []byte, body io.Reader) { refused = readRefusal(status, body) },
	}
	if resume != "" { // the resume string is a secret, so it is not in the URL, which servers log
		d.Protocols = append(d.Protocols, "resume."+resume)
	}
	if token != "" {
		d.Header = ws.HandshakeHeaderHTTP{"Authorization": {"Bearer " + token}}
	}
	conn, r, shake, err := d.Dial(ctx, addr)
	switch {
	case refused != nil:
		return nil, refused
	case err != nil:
		return nil, fmt.Errorf("open session: %w", err)
	case shake.Protocol != subprotocol:
		conn.Close()
		return nil, &RefusedError{Status: http.StatusNotFound, Message: "the server does not speak " + subprotocol}
	}
	if r == nil {
		r = bufio.NewReaderSize(conn, 16<<10)
	}
	l := &link{number: number, conn: conn, r: r}
	l.heard.Store(time.Now().UnixNano())
	return l, nil
}

// readRefusal returns the error for a server that answers without an upgrade to WebSocket. It reads
// up to 4 KiB of the answer.
func readRefusal(status int, body io.Reader) *RefusedError {
	e := &RefusedError{Status: status}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(body, 4<<10)), nil)
	if err != nil {
		return e
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	e.Message = strings.TrimSpace(string(text))
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		e.Retry = time.Duration(s) * time.Second
	}
	return e
}
