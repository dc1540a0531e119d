// Package history reads and writes the file of a torture run. Each line is a JSON object:
// first what the clients did and received, in order, then the log as a new reader found it.
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

// The ops. The Key identifies a message or an act. The client chooses the Key and uses it once
// in a run. Each comment lists the fields of the entry; it also has Client and Room, unless the
// comment says otherwise.
const (
	Invoke  Op = "invoke"  // Key, Kind, Body: the client is about to send it
	OK      Op = "ok"      // Key, Seq, Dup: it was acknowledged
	Fail    Op = "fail"    // Key, Why: it was refused for good
	Unknown Op = "unknown" // Key, Why: the client gave up waiting for an answer

	Hello  Op = "hello"  // Link, Sender: the client has connected; no Room
	Join   Op = "join"   // Link, From (nil: from now on): the client asks to follow the room
	Joined Op = "joined" // Link, Seq, Epoch: it follows the room, whose newest event is Seq
	Left   Op = "left"   // it no longer wants to follow the room
	Recv   Op = "recv"   // Link, Seq, Key, Kind, Sender, At, Body, Epoch: an event came while the client knew Epoch
	Gap    Op = "gap"    // Link, From, Seq, Why, Epoch: events From to Seq were announced as lost
	Ended  Op = "ended"  // Link, Why: the connection ended; no Room

	TextOpen Op = "text open" // Link: a text session has begun
	TextRecv Op = "text recv" // Link, Key, Body: it was shown a message
	TextEnd  Op = "text end"  // Link, Why: it ended

	App Op = "app" // Seq, Key, Kind, Sender, At, Body: an application received an event

	Page     Op = "page"      // Link, From, To, Why: page Link was read, since From or before To; Why: the reason of its gap
	PageRecv Op = "page recv" // Link and, as Recv, an event of page Link
	Count    Op = "count"     // Count: the client asked how many members the room has
	Told     Op = "told"      // Link, Count: the notice of a join or a leave gave the number of members

	Moderate  Op = "moderate"  // Key, Kind, Sender, From: an act, an edit or a message of a moderated room is about to be sent
	Moderated Op = "moderated" // Key, Seq, Body: it was acknowledged; or Why: it was refused
	Look      Op = "look"      // Key, Count: a page of a moderated room is about to be read, from Count replicas
	Looked    Op = "looked"    // Key, From, Seq: the page holds the seqs from From to Seq
	Seen      Op = "seen"      // Key, Seq, Kind, Body, Dup: an event of that page; Dup: it is a stub

	Fault Op = "fault" // Why, Key, Loss: a fault hits Client, a process; no Room
	Mend  Op = "mend"  // Key: that fault is over, and the processes run again
	Heal  Op = "heal"  // the last fault is over, and all processes run
	Calm  Op = "calm"  // after a silence: every member must have been shown every event
	End   Op = "end"   // the clients have had time to catch up
	Log   Op = "log"   // Seq, Key, Kind, Sender, At, Body, Epoch: a record of the log, in order; no Client
)

// RefusedAgain is the Why of an Unknown whose last try was refused. An earlier try had no
// answer, so it may still be carried out.
const RefusedAgain = "refused, after a try without an answer"

// Loss lists the records that a fault may destroy, as words separated by spaces. Each loss
// must be announced.
type Loss string

// The words.
const (
	LossEnd   Loss = "end"   // the newest records of any room: a new epoch announces it
	LossShown Loss = "shown" // the newest records that were shown but not acknowledged: likewise
	LossState Loss = "state" // the newest closes and reopens of rooms
	LossHole  Loss = "hole"  // single records: a gap announces it
	LossStart Loss = "start" // the oldest records: a gap announces it
	LossAll   Loss = "all"   // all records: a new epoch announces it
	// LossLast is the newest record of a log, if the witness of the log is lost too before it has
	// noticed the record. The epoch does not change, so only clients that resume with the time of
	// that record are told.
	LossLast Loss = "last"
)

// Any reports whether l has one of the words.
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
	Kind   string  `json:"kind,omitempty"` // of an event that is not a message
	Seq    uint64  `json:"seq,omitempty"`
	From   *uint64 `json:"from,omitempty"` // since; in a Gap, its first seq
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

// Text returns the text of the message called key: the key and filler that depends on the key,
// size bytes in all, or more if the key alone is longer.
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

// Sum returns the hash of a text for Body.
func Sum(text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(text))
	return h.Sum64()
}

// Writer appends entries to a file. It may be used from any goroutine; the order of the
// lines is the order of the calls.
type Writer struct {
	start time.Time // static

	mu   sync.Mutex // guards the fields below
	file *os.File
	buf  *bufio.Writer
	enc  *json.Encoder
	err  error
}

// Create begins a history in a new file. Times count from now.
func Create(path string) (*Writer, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("create history: %w", err)
	}
	buf := bufio.NewWriterSize(f, 1<<18)
	return &Writer{start: time.Now(), file: f, buf: buf, enc: json.NewEncoder(buf)}, nil
}

// Add appends e with the present time. Close returns its error.
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

// Read yields the entries of a file. It stops after an error.
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
