package wire

// MaxRequest is the longest request head in bytes; above it: 431.
const MaxRequest = 8 << 10

// Request is the head of an HTTP request. Its byte slices point into the buffer
// that was parsed; nothing in it outlives that buffer but Path.
type Request struct {
	Upgrade bool // a WebSocket handshake without fault; otherwise a matter for net/http

	Path  string // percent-decoded
	query []byte // raw, without the question mark

	Host          []byte
	Origin        []byte // nil if none was sent
	Cookie        []byte
	Authorization []byte
	ForwardedFor  []byte // all X-Forwarded-For values, joined by commas

	Deflate bool // the client offers permessage-deflate in a form this server takes

	key       []byte
	protocols []byte
}

// Refusal is an HTTP answer other than 101: a status and one line that says why.
type Refusal struct {
	Status int
	Reason string
}

func (r *Refusal) Error() string { return r.Reason }

// ParseRequest reads a request head from the front of buf and returns its
// length, 0 if it is not all there yet. A faulty handshake is a *Refusal.
func ParseRequest(buf []byte) (Request, int, error) { panic("not yet") }

// Query returns the first value of a query parameter, decoded; "" if there is none.
func (r *Request) Query(name string) string { panic("not yet") }

// Offers reports whether the client offers a subprotocol.
func (r *Request) Offers(protocol string) bool { panic("not yet") }

// AppendAccept appends the 101 answer; protocol is "" for none.
func (r *Request) AppendAccept(b []byte, protocol string, deflate bool) []byte { panic("not yet") }

// AppendRefusal appends an answer that refuses and closes.
func AppendRefusal(b []byte, r *Refusal) []byte { panic("not yet") }
