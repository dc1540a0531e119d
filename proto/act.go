package proto

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Act names a change that a moderator makes to a room. The room's owner commits the act to the
// log as an event.
type Act string

// The acts.
const (
	ActClose  Act = "close"
	ActReopen Act = "reopen"
	ActKick   Act = "kick"
	ActBan    Act = "ban"
	ActUnban  Act = "unban"
	ActMute   Act = "mute"
	ActUnmute Act = "unmute"
	ActSlow   Act = "slow"
	ActDelete Act = "delete"
	ActEdit   Act = "edit" // changes a sender's own message
)

// The kinds of the events that acts become.
const (
	Closed   EventKind = "closed"
	Reopened EventKind = "reopened"
	Kicked   EventKind = "kicked"
	Banned   EventKind = "banned"
	Unbanned EventKind = "unbanned"
	Muted    EventKind = "muted"
	Unmuted  EventKind = "unmuted"
	Slowed   EventKind = "slowed"
	Deleted  EventKind = "deleted"
	Edited   EventKind = "edited"
)

// ActRule is the description of an act in the table [Acts].
type ActRule struct {
	Act   Act
	Kind  EventKind // kind of the event that the act becomes
	Needs string    // the field that the act requires; "" = none
	Takes string    // a field that the act may have; "" = none
	Right Right     // the right that the act requires; RightSay is enough only for the author of the message
	Text  bool      // the act has a text, as a message has, and no reason; clients send it with the verb of the same name
	Does  string    // what the act does, for help texts
}

// Acts is the table of all acts.
var Acts = []ActRule{
	{Act: ActClose, Kind: Closed, Right: RightModerate,
		Does: "close a room: nobody can say anything there until it is reopened"},
	{Act: ActReopen, Kind: Reopened, Right: RightModerate, Does: "open a closed room again"},
	{Act: ActKick, Kind: Kicked, Needs: "member", Right: RightModerate,
		Does: "end a member's sessions in a room; the member may come back"},
	{Act: ActBan, Kind: Banned, Needs: "member", Takes: "for", Right: RightModerate,
		Does: "end a member's sessions in a room and refuse it from then on"},
	{Act: ActUnban, Kind: Unbanned, Needs: "member", Right: RightModerate, Does: "end a ban"},
	{Act: ActMute, Kind: Muted, Needs: "member", Takes: "for", Right: RightModerate, Does: "refuse a member's messages in a room"},
	{Act: ActUnmute, Kind: Unmuted, Needs: "member", Right: RightModerate, Does: "end a mute"},
	{Act: ActSlow, Kind: Slowed, Needs: "every", Right: RightModerate,
		Does: "let each member say only one message in a time such as 10s; 0 ends it"},
	{Act: ActDelete, Kind: Deleted, Needs: "seq", Takes: "epoch", Right: RightSay,
		Does: "delete a message: later readers see a stub, and its bytes leave the log"},
	{Act: ActEdit, Kind: Edited, Needs: "seq", Takes: "epoch", Right: RightSay, Text: true, Does: "change the text of a message of your own"},
}

// Rule returns the description of a. It returns nil if a is unknown.
func (a Act) Rule() *ActRule {
	for i := range Acts {
		if Acts[i].Act == a {
			return &Acts[i]
		}
	}
	return nil
}

// Permits returns the right that the act requires of a sender with the given rights. This is the
// right in the table [Acts]. But a sender who may moderate needs only the right to moderate, except
// for an act with a text.
func (a Act) Permits(rights Rights) Right {
	if rights.Allow(RightModerate) && !a.HasContent() {
		return RightModerate
	}
	return a.Rule().Right
}

// Known reports whether a is in the table [Acts].
func (a Act) Known() bool { return a.Rule() != nil }

// HasContent reports whether a request with this act has content. Otherwise it may have a reason.
// A message, which has no act, has content.
func (a Act) HasContent() bool {
	if a == "" {
		return true
	}
	rule := a.Rule()
	return rule != nil && rule.Text
}

// Verb returns the verb with which clients send the act. Without an act it returns say.
func (a Act) Verb() Verb {
	switch {
	case a == "":
		return VerbSay
	case a.HasContent():
		return Verb(a)
	}
	return VerbModerate
}

// HasContent reports whether events of this kind have content.
func (k EventKind) HasContent() bool {
	return k == Message || slices.ContainsFunc(Acts, func(rule ActRule) bool { return rule.Kind == k && rule.Text })
}

// listActs returns the names of the acts of the verb moderate, in the form "a, b and c".
func listActs() string {
	var names []string
	for i := range Acts {
		if !Acts[i].Text {
			names = append(names, string(Acts[i].Act))
		}
	}
	return enumerate(names)
}

// Guests stands for all guests of a room, as the member of a ban or a mute.
const Guests = "*guests"

// IsGuest reports whether a gateway has made this id, for a client without a credential.
func IsGuest(id string) bool { return strings.HasPrefix(id, "anon-") }

// Terms contains the fields of an act other than its reason; see [Acts].
type Terms struct {
	Member string        // an id, or [Guests]
	For    time.Duration // how long a ban or a mute lasts; 0 = until it is undone
	Every  time.Duration // in the slow mode, a member may say one message in this time; 0 ends the slow mode
	Seq    uint64        // seq of the message to delete or edit
	Epoch  string        // epoch of Seq; "" = the room's present epoch

	given []string // names of the fields that the client has sent
}

// Bounds for the times in acts.
const (
	minFor   = time.Second
	maxFor   = 10 * 366 * 24 * time.Hour // 10 long years
	minEvery = time.Second
	maxEvery = 24 * time.Hour
)

// read reads one field. JSON and NATS headers contain the same text.
func (t *Terms) read(name, value string) *Refusal {
	t.given = append(t.given, name)
	var err error
	switch name {
	case "member":
		t.Member = value
	case "for":
		if t.For, err = time.ParseDuration(value); err != nil || t.For < minFor || t.For > maxFor {
			return Refuse(BadRequest, `for is a time such as "10m", from 1s to %s (10 years)`, formatSpan(maxFor))
		}
	case "seq":
		if t.Seq, err = strconv.ParseUint(value, 10, 53); err != nil || t.Seq == 0 {
			return Refuse(BadRequest, "seq is the number of a message")
		}
	case "epoch":
		if t.Epoch = value; len(value) > maxEpoch {
			return Refuse(BadRequest, "an epoch has at most %d bytes, this one has %d", maxEpoch, len(value))
		}
	case "every":
		t.Every, err = time.ParseDuration(value)
		if err != nil || t.Every != 0 && t.Every < minEvery || t.Every > maxEvery {
			return Refuse(BadRequest, `every is a time such as "10s", from 1s to 24h; "0" ends slow`)
		}
	}
	return nil
}

// parsed returns a refusal if the act's required field is missing, or if a field does not belong
// to the act.
func (t *Terms) parsed(act Act) *Refusal {
	rule := act.Rule()
	if rule.Needs != "" && !slices.Contains(t.given, rule.Needs) {
		return Refuse(BadRequest, "%s needs %s", act, rule.Needs)
	}
	for _, name := range t.given {
		if name != rule.Needs && name != rule.Takes {
			return Refuse(BadRequest, "%s takes no %s", act, name)
		}
	}
	t.given = nil
	return t.check(act)
}

// check returns a refusal if a value is not valid for the act.
func (t *Terms) check(act Act) *Refusal {
	rule := act.Rule()
	switch {
	case rule == nil:
		return Refuse(BadRequest, "unknown act %s; the acts are %s", clip(string(act)), listActs())
	case rule.Needs == "seq" && t.Seq == 0:
		return Refuse(BadRequest, "%s needs seq", act)
	case rule.Needs != "member":
		return nil
	case t.Member == Guests && act == ActKick:
		return Refuse(BadRequest, "kick names one member")
	case t.Member == Guests:
		return nil
	case strings.HasPrefix(t.Member, "*"):
		return Refuse(BadRequest, "member is an id, or %s in a ban and a mute", Guests)
	}
	return CheckID(t.Member)
}

// headers returns the terms of an act as NATS headers, by name.
func (t *Terms) headers(act Act) map[string]string {
	h := make(map[string]string)
	if t.Member != "" {
		h[HeaderMember] = EscapeHeader(t.Member)
	}
	if t.For != 0 {
		h[HeaderFor] = formatSpan(t.For)
	}
	if act == ActSlow {
		h[HeaderEvery] = formatSpan(t.Every)
	}
	if t.Seq != 0 {
		h[HeaderSeq], h[HeaderEpoch] = strconv.FormatUint(t.Seq, 10), t.Epoch
	}
	return h
}

// formatSpan returns a duration in the form that [time.ParseDuration] reads. It omits parts that
// are zero: 10m, not 10m0s.
func formatSpan(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
