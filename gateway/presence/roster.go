package presence

import "roomcast/proto"

// indexFrom is the size from which a roster has an index; a shorter one is searched.
const indexFrom = 16

// roster lists the people whom one gateway has in a room, each id once. It is not safe for
// concurrent use. A room has few people as a rule, so a roster is a slice first.
type roster struct {
	list  []proto.Member // with their sessions on this gateway
	index map[string]int // position by id; nil in a short list
}

// find returns the position of an id, or -1.
func (r *roster) find(id string) int {
	if r.index != nil {
		if i, ok := r.index[id]; ok {
			return i
		}
		return -1
	}
	for i := range r.list {
		if r.list[i].ID == id {
			return i
		}
	}
	return -1
}

func (r *roster) has(id string) bool { return r.find(id) >= 0 }

// add adds a person who is not in the roster.
func (r *roster) add(who proto.Identity) {
	r.list = append(r.list, proto.Member{Identity: who, Sessions: 1})
	switch {
	case r.index != nil:
		r.index[who.ID] = len(r.list) - 1
	case len(r.list) > indexFrom:
		r.index = make(map[string]int, 2*len(r.list))
		for i := range r.list {
			r.index[r.list[i].ID] = i
		}
	}
}

// remove removes the person at a position and returns the person.
func (r *roster) remove(i int) proto.Identity {
	gone, last := r.list[i].Identity, len(r.list)-1
	r.list[i] = r.list[last]
	r.list[last] = proto.Member{}
	r.list = r.list[:last]
	if r.index != nil {
		delete(r.index, gone.ID)
		if i < last {
			r.index[r.list[i].ID] = i
		}
	}
	return gone
}

// identities returns the people without their sessions.
func (r *roster) identities() []proto.Identity {
	out := make([]proto.Identity, len(r.list))
	for i := range r.list {
		out[i] = r.list[i].Identity
	}
	return out
}
