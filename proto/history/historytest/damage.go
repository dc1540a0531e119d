package historytest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Crash ends the server and leaves the store as kill -9 does: without the index that a
// clean stop writes.
func (s *Server) Crash() {
	s.tb.Helper()
	s.Stop()
	for _, index := range s.files("*", "index.db") {
		if err := os.Remove(index); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.tb.Fatal(err)
		}
	}
}

// Flip flips one bit behind a text that only one message of a stream contains. The server
// does not run. A second call restores the message.
func (s *Server) Flip(stream, text string) {
	s.tb.Helper()
	var file string
	at := -1
	for _, block := range s.files(stream, "*.blk") {
		b, err := os.ReadFile(block)
		if err != nil {
			s.tb.Fatal(err)
		}
		if i := bytes.Index(b, []byte(text)); i >= 0 {
			if at >= 0 || bytes.Count(b, []byte(text)) > 1 {
				s.tb.Fatalf("%q occurs more than once in stream %s", text, stream)
			}
			file, at = block, i
		}
	}
	if at < 0 {
		s.tb.Fatalf("%q is not in stream %s", text, stream)
	}
	// The text itself stays as it is, so that a second call finds it.
	s.FlipByte(file, int64(at+len(text)))
}

// FlipByte flips a bit of the byte at an offset of a file.
func (s *Server) FlipByte(file string, at int64) {
	s.tb.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		s.tb.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], at); err != nil {
		s.tb.Fatal(err)
	}
}

// Blocks returns the files that hold the messages of a stream, the oldest first, and
// Index its index, which exists after a clean stop.
func (s *Server) Blocks(stream string) []string { return s.files(stream, "*.blk") }

// Index returns the file of a stream's index.
func (s *Server) Index(stream string) string {
	s.tb.Helper()
	found := s.files(stream, "index.db")
	if len(found) != 1 {
		s.tb.Fatalf("stream %s has %d indexes", stream, len(found))
	}
	return found[0]
}

func (s *Server) files(stream, pattern string) []string {
	s.tb.Helper()
	found, err := filepath.Glob(filepath.Join(s.opts.StoreDir, "jetstream", "*", "streams", stream, "msgs", pattern))
	if err != nil {
		s.tb.Fatal(err)
	}
	return found
}
