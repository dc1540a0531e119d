package historytest

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// Store is the data directory of a NATS server that is not running. Its methods damage the
// stored data.
type Store struct {
	TB  testing.TB
	Dir string
}

// Store returns the server's data directory. A test may damage it between Stop and Restart.
func (s *Server) Store() Store { return Store{s.tb, s.Dir()} }

// Crash leaves the directory in the state after kill -9: without the indexes that a clean stop
// writes.
func (s Store) Crash() {
	s.TB.Helper()
	for _, index := range s.files("*", "index.db") {
		if err := os.Remove(index); err != nil {
			s.TB.Fatal(err)
		}
	}
}

// Flip searches the stream for the newest message that matches the pattern, and flips one bit in
// the byte after the match. A second call restores the message.
func (s Store) Flip(stream, pattern string) {
	s.TB.Helper()
	expr := regexp.MustCompile(pattern)
	blocks := s.files(stream, "*.blk")
	for i := len(blocks) - 1; i >= 0; i-- {
		b, err := os.ReadFile(blocks[i])
		if err != nil {
			s.TB.Fatal(err)
		}
		if found := expr.FindAllIndex(b, -1); len(found) > 0 {
			s.FlipByte(blocks[i], int64(found[len(found)-1][1]))
			return
		}
	}
	s.TB.Fatalf("%s matches nothing in stream %s", pattern, stream)
}

// FlipByte flips one bit in the byte at the given offset of a file.
func (s Store) FlipByte(file string, at int64) {
	s.TB.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		s.TB.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		s.TB.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], at); err != nil {
		s.TB.Fatal(err)
	}
}

// Block returns the path of the file with the oldest messages of a stream.
func (s Store) Block(stream string) string { return s.file(stream, "*.blk") }

// Index returns the path of a stream's index, which exists after a clean stop.
func (s Store) Index(stream string) string { return s.file(stream, "index.db") }

func (s Store) file(stream, pattern string) string {
	s.TB.Helper()
	found := s.files(stream, pattern)
	if len(found) == 0 {
		s.TB.Fatalf("stream %s has no %s", stream, pattern)
	}
	return found[0]
}

func (s Store) files(stream, pattern string) []string {
	s.TB.Helper()
	found, err := filepath.Glob(filepath.Join(s.Dir, "jetstream", "*", "streams", stream, "msgs", pattern))
	if err != nil {
		s.TB.Fatal(err)
	}
	return found
}
