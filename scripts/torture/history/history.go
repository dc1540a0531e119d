// Package history reads and writes the file of a torture run. Each line is a JSON object, called an
// entry. The first entries say what the clients did and received, in order. The last entries are
// the log, as a new reader found it.
package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Op is the kind of an entry.
type Op string

// The ops. The Key identifies a message or an act; a client uses each Key for one message in a run.
// The comment of each op begins with the fields of its entry. After a colon, it says what the op
// means. An entry also has the fields Client and Room, unless the comment says otherwise. In the
// meanings, "it" is the message, the act or the client of the entry.
const (
	Invoke  Op = "invoke"  // Key, Kind, Body: the client is about to send a message or an act
	OK      Op = "ok"      // Key, Seq, Dup: it was acknowledged
	Fail    Op = "fail"    // Key, Why: it was refused for good
	Unknown Op = "unknown" // Key, Why: the client gave up waiting for an answer

	Hello  Op = "hello"  // Link, Sender: the client has connected; no Room
	Join   Op = "join"   // Link, From (nil = only new events): the client asks to follow the room
	Joined Op = "joined" // Link, Seq, Epoch: the client follows the room, whose newest event is Seq
	Left   Op = "left"   // the client no longer wants to follow the room
	Recv   Op = "recv"   // Link, Seq, Key, Kind, Sender, At, Body, Epoch: the client received an event while it knew Epoch
	Gap    Op = "gap"    // Link, From, Seq, Why, Epoch: events From to Seq were announced as lost
	Ended  Op = "ended"  // Link, Why: the connection ended; no Room

	TextOpen Op = "text open" // Link: a text session has begun
	TextRecv Op = "text recv" // Link, Key, Body: the text session received a message
	TextEnd  Op = "text end"  // Link, Why: the text session ended

	App Op = "app" // Seq, Key, Kind, Sender, At, Body: an application received an event

	Page     Op = "page"      // Link, From, To, Why: page number Link was read, since From or before To; Why is the reason of its gap
	PageRecv Op = "page recv" // Link, and the fields of Recv: an event of page number Link
	Count    Op = "count"     // Count: the client asked how many members the room has
	Told     Op = "told"      // Link, Count: a notice of a join or a leave named the number of members

	Moderate  Op = "moderate"  // Key, Kind, Sender, From: a client is about to send an act, an edit or a message to a moderated room
	Moderated Op = "moderated" // Key, Seq, Body: it was acknowledged. Or Key, Why: it was refused
	Look      Op = "look"      // Key, Count: a client is about to read a page of a moderated room; the log has Count replicas
	Looked    Op = "looked"    // Key, From, Seq: the page contains the seqs from From to Seq
	Seen      Op = "seen"      // Key, Seq, Kind, Body, Dup: an event of that page; if Dup is true, the event is a stub

	Fault Op = "fault" // Why, Key, Loss: a fault hits the process Client; no Room
	Over  Op = "over"  // Key: that fault is over, and the processes run again
	Heal  Op = "heal"  // the last fault is over, and all processes run
	Calm  Op = "calm"  // no message was sent for a while: every member must have received every event
	End   Op = "end"   // the clients have had time to receive all events
	Log   Op = "log"   // Seq, Key, Kind, Sender, At, Body, Epoch: a record of the log, in order; no Client
)

// RefusedAgain is the Why of an Unknown entry if the last try was refused. An earlier try had no
// answer, so the request of that try may still be carried out.
const RefusedAgain = "refused, after a try without an answer"

// Loss lists the records that a fault may destroy, as words separated by spaces. Gateways must
// announce each loss to clients.
type Loss string

// The words.
const (
	LossEnd   Loss = "end"   // the newest records of any room; a new epoch announces this loss
	LossShown Loss = "shown" // the newest records that were sent to members but not acknowledged; a new epoch announces this loss
	LossState Loss = "state" // the newest closes and reopens of rooms
	LossHole  Loss = "hole"  // single records; a gap announces this loss
	LossStart Loss = "start" // the oldest records; a gap announces this loss
	LossAll   Loss = "all"   // all records; a new epoch announces this loss
	// LossLast is the newest record of a log, lost in a way that roomsvc cannot notice. Either the
	// witness (the stored position of the log's end) was lost too, or it did not include that
	// record yet. The epoch does not change. Only a client that resumes with the time of the lost
	// record receives a reset.
	LossLast Loss = "last"
)

// Any reports whether l contains at least one of the words.
func (l Loss) Any(words ...Loss) bool {
	for word := range strings.FieldsSeq(string(l)) {
		if slices.Contains(words, Loss(word)) {
			return true
		}
	}
	return false
}

// Entry is one line. Times are nanoseconds since the run began, by the monotonic clock.
type Entry struct {
	T      int64   `json:"t"`
	Op     Op      `json:"op"`
	Client string  `json:"client,omitempty"`
	Link   int     `json:"link,omitempty"` // the client's connection, counted from 1
	Room   string  `json:"room,omitempty"`
	Key    string  `json:"key,omitempty"`
	Kind   string  `json:"kind,omitempty"` // kind of an event that is not a message
	Seq    uint64  `json:"seq,omitempty"`
	From   *uint64 `json:"from,omitempty"` // the seq after which a read begins; in a Gap, the first missing seq
	To     uint64  `json:"to,omitempty"`
	Epoch  string  `json:"epoch,omitempty"`
	Count  int     `json:"count,omitempty"`
	Loss   Loss    `json:"loss,omitempty"`
	Dup    bool    `json:"dup,omitempty"`
	Sender string  `json:"sender,omitempty"`
	At     int64   `json:"at,omitempty"` // the server's time, milliseconds since 1970
	Body   uint64  `json:"body,omitempty"`
	Why    string  `json:"why,omitempty"`
}

// Text returns the text of the message with the given key. It consists of the key and of filler
// that depends on the key. It has size bytes, or more if the key alone is longer.
func Text(key string, size int) string {
	var b strings.Builder
	b.WriteString(key)
	b.WriteByte(' ')
	for x := Sum(key); b.Len() < size; x = x*6364136223846793005 + 1442695040888963407 {
		b.WriteByte("abcdefghijklmnop"[x>>60])
	}
	return b.String()
}

// KeyOf returns the key of a text made by [Text].
func KeyOf(text string) string {
	key, _, _ := strings.Cut(text, " ")
	return key
}

// Sum returns the hash of a text, for the field Body.
func Sum(text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(text))
	return h.Sum64()
}

// Writer appends entries to a file. It is safe for concurrent use. The lines have the order of the
// calls.
type Writer struct {
	start time.Time // static

	mu   sync.Mutex // guards the fields below
	file *os.File
	buf  *bufio.Writer
	enc  *json.Encoder
	err  error
}

// Create begins a history in a new file. The times of the entries count from this call.
func Create(path string) (*Writer, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("create history: %w", err)
	}
	buf := bufio.NewWriterSize(f, 1<<18)
	return &Writer{start: time.Now(), file: f, buf: buf, enc: json.NewEncoder(buf)}, nil
}

// Add appends e with the present time. If it fails, Close returns the error.
func (w *Writer) Add(e Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.T = int64(time.Since(w.start))
	w.err = errors.Join(w.err, w.enc.Encode(e))
}

// Close ends the file.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := errors.Join(w.err, w.buf.Flush(), w.file.Close()); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	return nil
}

// Read returns an iterator over the entries of a file. It stops after an error.
func Read(path string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(Entry{}, fmt.Errorf("read history: %w", err))
			return
		}
		defer f.Close()
		for dec := json.NewDecoder(bufio.NewReaderSize(f, 1<<18)); ; {
			var e Entry
			switch err := dec.Decode(&e); {
			case err == io.EOF:
				return
			case err != nil:
				yield(Entry{}, fmt.Errorf("read history: %w", err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}
