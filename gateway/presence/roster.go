package presence

import "roomcast/proto"

// indexFrom is the number of people from which a roster has an index. A shorter list is
// searched.
const indexFrom = 16

// roster lists the people that one gateway has in a room. Each id is in the list once. A roster
// is not safe for concurrent use. Most rooms have few people, so a roster has an index only if
// its list is long.
type roster struct {
	list  []proto.Member // Sessions counts only the sessions on this gateway
	index map[string]int // position in list, by id; nil if the list is short
}

// find returns the position of the person with this id, or -1.
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

// rename gives the person at the given position of the list the name in who. It reports whether
// this is another name than before.
func (r *roster) rename(i int, who proto.Identity) bool {
	if r.list[i].Name == who.Name {
		return false
	}
	r.list[i].Name = who.Name
	return true
}

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

// remove removes the person at the given position of the list, and returns this person.
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

// identities returns the people without the number of their sessions.
func (r *roster) identities() []proto.Identity {
	out := make([]proto.Identity, len(r.list))
	for i := range r.list {
		out[i] = r.list[i].Identity
	}
	return out
}
