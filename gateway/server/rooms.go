package server

import (
	"net/http"
	"slices"
	"strings"

	"roomcast/proto"
)

// members answers with a [proto.Members].
func (a *api) members(r *http.Request, by *caller) (answer, error) {
	room, err := roomOf(r, by, proto.RightRead)
	if err == nil {
		err = a.guard.askJoin(r, by, room)
	}
	if err != nil {
		return nil, err
	}
	return await(r.Context(), func(done func(answer, error)) {
		a.bridge.Members(room, func(count int, list []proto.Member, err error) {
			m := proto.Members{Room: room, Count: count, List: list}
			if err != nil || by.local {
				done(m.AppendJSON(nil), err)
				return
			}
			a.bridge.Restrictions(room, func(limits *proto.Restrictions, err error) {
				if err == nil {
					err = by.banned(limits)
				}
				done(m.AppendJSON(nil), err)
			})
		})
	})
}

// rooms answers with {"rooms":[{"room":"lobby","messages":12},…]}. The list contains the rooms
// that the caller may read, sorted by name.
func (a *api) rooms(r *http.Request, by *caller) (answer, error) {
	list, err := await(r.Context(), a.bridge.Rooms)
	if err != nil {
		return nil, err
	}
	type room struct {
		Room     string `json:"room"`
		Messages uint64 `json:"messages"`
	}
	rooms := make([]room, 0, len(list))
	for name, messages := range list {
		if by.may(name, proto.RightRead) == nil {
			rooms = append(rooms, room{name.String(), messages})
		}
	}
	slices.SortFunc(rooms, func(a, b room) int { return strings.Compare(a.Room, b.Room) })
	return appendJSON(nil, map[string]any{"rooms": rooms}), nil
}
