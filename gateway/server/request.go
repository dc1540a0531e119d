package server

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"

	"roomcast/proto"
)

// roomOf returns the room of a request. It returns a refusal if the caller does not have the
// right in this room.
func roomOf(r *http.Request, by *caller, right proto.Right) (proto.Room, error) {
	room, err := proto.ParseRoom(r.PathValue("room"))
	if err != nil {
		return room, proto.Refuse(proto.BadRoom, "%v", err)
	}
	return room, by.may(room, right)
}

// senderOf returns the sender of a request. Usually this is the caller. A caller that may act for
// others can name another sender, with its id in from= and its name in name=.
func senderOf(r *http.Request, by *caller) (proto.Identity, error) {
	q := r.URL.Query()
	for name := range q {
		if name != "from" && name != "name" {
			return proto.Identity{}, proto.Refuse(proto.BadRequest, "%.40q is not a parameter; use from or name", name)
		}
	}
	who := by.who
	if !q.Has("from") && !q.Has("name") {
		return who, nil
	}
	who.Name = q.Get("name")
	if id := q.Get("from"); id != "" {
		if proto.ReservedID(id) {
			return who, proto.Refuse(proto.Forbidden, "from=%.80s is an id that only Roomcast itself uses; choose another", id)
		}
		who.ID = id
	}
	if by.token == nil || who.ID != by.who.ID { // a program may choose its own name
		if err := by.mayBe(who.ID); err != nil {
			return who, err
		}
	}
	if refusal := proto.CheckID(who.ID); refusal != nil {
		return who, refusal
	}
	if refusal := proto.CheckName(who.Name); refusal != nil {
		return who, refusal
	}
	return who, nil
}

// keyOf returns the key of a request, from the body or from the header Idempotency-Key. The
// draft for this header (draft-ietf-httpapi-idempotency-key-header) requires quotes around the
// value, but many clients leave them out.
func keyOf(r *http.Request, inBody string) (string, error) {
	values := r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return inBody, nil
	}
	if refusal := atMostOne(r, "Idempotency-Key"); refusal != nil {
		return "", refusal
	}
	key := values[0]
	if n := len(key) - 1; n > 0 && key[0] == '"' && key[n] == '"' {
		key = key[1:n]
	}
	if refusal := proto.CheckKey(key); refusal != nil {
		return "", refusal
	}
	if inBody != "" && inBody != key {
		return "", proto.Refuse(proto.BadRequest, "the key in the body and the Idempotency-Key differ; send only one")
	}
	return key, nil
}

// atMostOne returns a refusal if the request has several headers with this name.
func atMostOne(r *http.Request, name string) *proto.Refusal {
	if len(r.Header.Values(name)) > 1 {
		return proto.Refuse(proto.BadRequest, "the request has several headers %s; send one", name)
	}
	return nil
}

// readObject reads the body as a JSON object into v. It returns an error if the object has a
// field that v does not have.
func readObject(r *http.Request, v any, example string) error {
	for name := range r.URL.Query() {
		return proto.Refuse(proto.BadRequest, "%.40q is not a parameter; this request has none", name)
	}
	body, err := readBody(r)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	why := "more follows the object"
	switch err := dec.Decode(v); {
	case err == nil:
		if _, err := dec.Token(); errors.Is(err, io.EOF) { // dec.More returns false at a superfluous closing brace
			return nil
		}
	case errors.Is(err, io.EOF):
		why = "it is empty"
	default:
		why = strings.TrimPrefix(err.Error(), "json: ")
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			want := map[reflect.Kind]string{reflect.String: "a string", reflect.Bool: "true or false", reflect.Struct: "an object"}[wrong.Type.Kind()]
			why = fmt.Sprintf("%s must be %s", cmp.Or(wrong.Field, "the body"), want)
		} else if invalid := proto.ValidJSON(body); invalid != nil {
			why = fmt.Sprintf("it is %v", invalid)
		}
	}
	return proto.Refuse(proto.BadRequest, "the body must be JSON such as %s, but %.120s", example, why)
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, proto.Refuse(proto.TooLarge, "the body is longer than %d bytes", large.Limit)
	}
	if err != nil {
		return nil, proto.Refuse(proto.BadRequest, "the body ended early")
	}
	return body, nil
}

// appendJSON appends v as JSON. It must be possible to encode every value of v's type.
func appendJSON(b []byte, v any) []byte {
	j, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return append(b, j...)
}
