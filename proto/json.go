package proto

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxDepth is the deepest nesting of arrays and objects that the reader accepts.
const maxDepth = 64

// Each syntax error of a [jsonReader] wraps errJSON.
var errJSON = errors.New("not valid JSON")

// jsonReader reads one JSON text strictly and without copying. In contrast, encoding/json accepts
// two equal names in an object, names in another case, and invalid UTF-8. Then two programs could
// read the same frame differently. For this reader, all of these are errors. A reader reads one
// text, in one goroutine.
type jsonReader struct {
	b     []byte
	i     int
	depth int
}

// typeError is the error for a value of another type than the reader expects. It names the
// expected type, such as "a string". The value itself may be valid JSON.
type typeError string

func (e typeError) Error() string { return fmt.Sprintf("%v: expected %s", errJSON, string(e)) }

func (e typeError) Unwrap() error { return errJSON }

func (r *jsonReader) fail(what string) error {
	return fmt.Errorf("%w: %s at byte %d", errJSON, what, r.i)
}

func (r *jsonReader) space() {
	for r.i < len(r.b) {
		switch r.b[r.i] {
		case ' ', '\t', '\n', '\r':
			r.i++
		default:
			return
		}
	}
}

// peek returns the first byte of the next token, or 0 at the end of the text.
func (r *jsonReader) peek() byte {
	r.space()
	if r.i == len(r.b) {
		return 0
	}
	return r.b[r.i]
}

func (r *jsonReader) expect(c byte) error {
	if r.peek() != c {
		return r.fail(fmt.Sprintf("expected %q", c))
	}
	r.i++
	return nil
}

// begin reads c, which is the first byte of every value of one type. If a value of another type
// begins here, the error says that want was expected.
func (r *jsonReader) begin(c byte, want string) error {
	switch next := r.peek(); {
	case next == c:
		r.i++
		return nil
	case next != 0 && strings.IndexByte(`{["-0123456789tfn`, next) >= 0:
		return typeError(want)
	}
	return r.fail("expected " + want)
}

// end returns an error if there is anything but white space left.
func (r *jsonReader) end() error {
	if r.peek() != 0 || r.i != len(r.b) {
		return r.fail("something follows the JSON text")
	}
	return nil
}

// object reads an object. It calls field for each name, in order. The function field must read
// exactly the value that follows the name. Two equal names are an error.
func (r *jsonReader) object(field func(name string) error) error {
	if err := r.enter('{', "an object"); err != nil {
		return err
	}
	var seen names
	for n := 0; r.peek() != '}'; n++ {
		if n > 0 {
			if err := r.expect(','); err != nil {
				return err
			}
		}
		if r.peek() != '"' {
			return r.fail("expected a name in quotes")
		}
		name, err := r.str()
		if err != nil {
			return err
		}
		if !seen.add(name) {
			return r.fail(fmt.Sprintf("the name %s comes twice", clip(name)))
		}
		if err := r.expect(':'); err != nil {
			return err
		}
		if err := field(name); err != nil {
			return err
		}
	}
	r.i++
	r.depth--
	return nil
}

// names is a set of strings. A small set needs no map, so most calls do not allocate one.
type names struct {
	few  [12]string
	n    int
	many map[string]struct{}
}

// add adds name to the set. It returns false if name was in the set already.
func (s *names) add(name string) bool {
	if slices.Contains(s.few[:s.n], name) {
		return false
	}
	if s.n < len(s.few) {
		s.few[s.n] = name
		s.n++
		return true
	}
	if s.many == nil {
		s.many = make(map[string]struct{})
	}
	before := len(s.many)
	s.many[name] = struct{}{}
	return len(s.many) > before
}

func (r *jsonReader) enter(c byte, want string) error {
	if err := r.begin(c, want); err != nil {
		return err
	}
	if r.depth++; r.depth > maxDepth {
		return r.fail(fmt.Sprintf("nested deeper than %d", maxDepth))
	}
	return nil
}

// integer reads a whole number from 0 to 2^53-1. All JSON readers represent these numbers
// exactly.
func (r *jsonReader) integer() (uint64, error) {
	raw, err := r.value()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil || n >= 1<<53 {
		return 0, typeError("a whole number from 0 to 2^53-1")
	}
	return n, nil
}

// positive reads a seq or a count.
func (r *jsonReader) positive() (uint64, error) {
	n, err := r.integer()
	if _, wrong := err.(typeError); wrong || err == nil && n == 0 {
		err = typeError("a whole number from 1 to 2^53-1")
	}
	return n, err
}

func (r *jsonReader) number() ([]byte, error) {
	r.space()
	start := r.i
	digits := func() bool {
		from := r.i
		for r.i < len(r.b) && r.b[r.i] >= '0' && r.b[r.i] <= '9' {
			r.i++
		}
		return r.i > from
	}
	is := func(set string) bool {
		if r.i < len(r.b) {
			for j := 0; j < len(set); j++ {
				if r.b[r.i] == set[j] {
					r.i++
					return true
				}
			}
		}
		return false
	}
	is("-")
	ok := is("0") || digits()
	if ok && is(".") {
		ok = digits()
	}
	if ok && is("eE") {
		is("+-")
		ok = digits()
	}
	if !ok {
		return nil, r.fail("expected a number")
	}
	raw := r.b[start:r.i]
	if f, err := strconv.ParseFloat(string(raw), 64); err != nil || math.IsInf(f, 0) {
		return nil, r.fail("a number out of range")
	}
	return raw, nil
}

// value checks a value of any type and returns its bytes.
func (r *jsonReader) value() ([]byte, error) {
	c := r.peek()
	start := r.i
	var err error
	switch {
	case c == '{':
		err = r.object(func(string) error { _, err := r.value(); return err })
	case c == '[':
		err = r.array()
	case c == '"':
		_, err = r.str()
	case c == 't':
		err = r.literal("true")
	case c == 'f':
		err = r.literal("false")
	case c == 'n':
		err = r.literal("null")
	default:
		_, err = r.number()
	}
	if err != nil {
		return nil, err
	}
	return r.b[start:r.i], nil
}

// boolean reads true or false.
func (r *jsonReader) boolean() (bool, error) {
	raw, err := r.value()
	if err == nil && string(raw) != "true" && string(raw) != "false" {
		err = typeError("true or false")
	}
	return string(raw) == "true", err
}

// time reads a string in the form of [ParseTime].
func (r *jsonReader) time() (time.Time, error) {
	s, err := r.str()
	if err != nil {
		return time.Time{}, err
	}
	return ParseTime(s)
}

func (r *jsonReader) array() error {
	if err := r.enter('[', "an array"); err != nil {
		return err
	}
	for n := 0; r.peek() != ']'; n++ {
		if n > 0 {
			if err := r.expect(','); err != nil {
				return err
			}
		}
		if _, err := r.value(); err != nil {
			return err
		}
	}
	r.i++
	r.depth--
	return nil
}

func (r *jsonReader) literal(word string) error {
	if len(r.b)-r.i < len(word) || string(r.b[r.i:r.i+len(word)]) != word {
		return r.fail("expected a value")
	}
	r.i += len(word)
	return nil
}

// ValidJSON returns an error if data is not exactly one JSON value in valid UTF-8. It also
// returns an error for two equal names in an object, and for nesting deeper than 64.
func ValidJSON(data []byte) error {
	r := jsonReader{b: data}
	if _, err := r.value(); err != nil {
		return err
	}
	return r.end()
}
