package owner

import "time"

// step applies one event, and returns the actions that the instance must carry out, in this order.
func (o *ownership) step(e event, now time.Time) []action {
	var out []action
	do := func(a ...action) { out = append(out, a...) }
	switch e := e.(type) {
	case started:
		o.tell = true
		o.look(do)
	case stopped:
		o.leaving, o.tell = true, true
		o.look(do)
	case ticked:
		if e.beat {
			o.look(do)
		}
	case changed:
		o.look(do)
	case reconnected:
		o.peers.lostView()
	case looked:
		o.looked(e, now, do)
	case acquired:
		o.acquired(e, now, do)
	case failed:
		o.failed(e, now, do)
	case released:
		o.released(e, now, do)
	case lost:
		o.lost(e, now, do)
	case worn:
		if o.parts[e.p].state == owned {
			o.parts[e.p].due = now
		}
	case taken:
		o.taken(e, do)
	case asked:
		switch part := &o.parts[e.p]; part.state {
		case owned:
			o.release(e.p, requested, do)
		case acquiring, renewing:
			part.asked = true // the fence may be stored already, so the partition is not free
		case releasing:
			// Do not answer yet. The other instance waits until the release is done, or takes the
			// fence by force.
		default:
			do(answer(e)) // this instance does not own the partition, so the other instance may take the fence
		}
	}
	o.share(now, do)
	return out
}

// look starts the action look. If an earlier look has no result yet, the next look starts when that
// result has come.
func (o *ownership) look(do func(...action)) {
	if o.again = o.looking; o.looking {
		return
	}
	o.looking = true
	do(look{leaving: o.leaving, tell: o.tell})
	o.tell = false
}

func (o *ownership) looked(e looked, now time.Time, do func(...action)) {
	o.looking = false
	o.said = o.said || e.leaving // also after a failed attempt, because the instance must not wait for ever
	if e.renewed {
		if !now.Before(o.until) {
			o.distrust(do)
		}
		o.until = e.sent.Add(o.lease)
	}
	if e.err != nil {
		o.peers.lostView()
		o.note(e.err, do)
	} else {
		for _, c := range o.peers.see(e.leases, e.sent) {
			if c.id != o.id {
				what := "instance has left or died"
				if c.alive {
					what = "instance has started"
				}
				do(report{p: -1, what: what, by: c.id})
			}
		}
		for p := range o.chosen {
			o.chosen[p] = o.peers.chosen(p, o.id)
		}
	}
	if o.again {
		o.look(do)
	}
}

// distrust releases all owned partitions, because the lease expired. Another instance may have
// taken some of them meanwhile. This instance would notice that only at the next commit. When the
// release is done, the instance acquires its share again.
func (o *ownership) distrust(do func(...action)) {
	for p := range o.parts {
		if o.parts[p].state == owned {
			o.release(p, leaseOver, do)
			o.doubted++
		}
	}
	if o.doubted > 0 {
		do(report{p: -1, what: "lease expired; acquiring its partitions again"})
	}
}

func (o *ownership) release(p int, why cause, do func(...action)) {
	o.parts[p].state, o.parts[p].cause = releasing, why
	o.pending++
	do(release{p})
}

// share acquires the partitions that this instance should own, and renews the old markers.
//
// An instance without a lease acquires nothing. It may be cut off from a majority of the servers.
// Then it would take partitions again and again from instances that reach the majority. After a
// failed acquisition, another instance may be chosen for the partition. Then share releases the
// partition. Otherwise this instance would refuse commands that the other instance can answer.
func (o *ownership) share(now time.Time, do func(...action)) {
	all, leased := o.peers.sighted(), now.Before(o.until)
	for p := range o.parts {
		part := &o.parts[p]
		stuck := part.state == interrupted || part.state == unavailable
		elsewhere := !o.chosen[p] || o.leaving && !o.peers.alone(o.id)
		switch {
		case stuck && elsewhere:
			o.release(p, yielded, do)
		case o.leaving:
		case part.state == owned:
			if o.pending < maxPending && !now.Before(part.due) {
				part.state = renewing
				o.pending++
				do(renew{p})
			}
		case !o.chosen[p] || part.state == renewing:
		case part.state != foreign && !stuck:
			all = false // the partition is in the state acquiring or releasing
		case !leased:
			all = false
			if part.state == interrupted { // the commands that wait are refused now
				o.refuse(p, do)
			}
		default:
			all = false
			if o.pending < maxPending && !now.Before(part.due) {
				part.state = acquiring
				o.pending++
				do(acquire{p, part.ours})
			}
		}
	}
	if all && !o.leaving {
		o.note(nil, do)
	}
}

// acquired begins to own a partition. Another instance that has asked for it meanwhile gets it. If
// another instance has written a marker meanwhile, nobody knows which of the two markers is newer.
// Then share renews the marker at once. That fails if the other marker is newer.
func (o *ownership) acquired(e acquired, now time.Time, do func(...action)) {
	part := &o.parts[e.p]
	o.pending--
	part.state, part.ours, part.pause, part.due = owned, true, 0, now.Add(o.renew)
	if part.rival {
		part.due = now
	}
	asked := part.asked
	part.rival, part.asked = false, false
	if asked {
		o.release(e.p, requested, do)
	}
}

// taken yields a partition that another instance has taken by force.
func (o *ownership) taken(e taken, do func(...action)) {
	if e.by == o.id {
		return
	}
	switch part := &o.parts[e.p]; part.state {
	case owned:
		do(report{p: e.p, what: "partition was taken by force", by: e.by})
		o.release(e.p, yielded, do)
	case acquiring, renewing:
		part.rival = true
	}
}

func (o *ownership) failed(e failed, now time.Time, do func(...action)) {
	part := &o.parts[e.p]
	o.pending--
	part.ours = e.ours
	asked := part.asked
	part.rival, part.asked = false, false
	o.wait(e.p, now)
	o.refuse(e.p, do)
	o.note(e.err, do)
	if asked {
		do(answer{e.p})
	}
}

// refuse gives a partition the state unavailable.
func (o *ownership) refuse(p int, do func(...action)) {
	o.parts[p].state = unavailable
	do(refuse{p, o.parts[p].ours})
}

func (o *ownership) released(e released, now time.Time, do func(...action)) {
	part := &o.parts[e.p]
	o.pending--
	part.state, part.ours = foreign, false
	if part.cause == leaseOver {
		part.due = now
		o.doubted--
		return
	}
	// Another instance takes the partition because it has read newer leases. Do not acquire the
	// partition before this instance has read them too.
	part.due = now.Add(o.lease / 2)
	if part.cause == requested {
		do(answer(e))
	}
}

func (o *ownership) lost(e lost, now time.Time, do func(...action)) {
	part := &o.parts[e.p]
	if part.state != owned {
		return // the partition is in the state releasing or renewing already
	}
	part.state, part.due = interrupted, now
	if isLost(e.err) {
		part.ours = false
		do(report{p: e.p, what: "partition lost", err: e.err})
		o.wait(e.p, now)
		o.look(do) // the instance that took the partition has read newer leases
	}
}

// wait sets the time of the next attempt to acquire a partition. It doubles the pause each time, up
// to lastPause.
func (o *ownership) wait(p int, now time.Time) {
	part := &o.parts[p]
	part.pause = min(lastPause, max(firstPause, 2*part.pause))
	part.due = now.Add(part.pause)
}

// note keeps the newest error. It reports the first error after a success, and the first success
// after an error.
func (o *ownership) note(err error, do func(...action)) {
	before := o.trouble
	o.trouble = err
	switch {
	case err == nil && before != nil:
		do(report{p: -1, what: "all partitions of this instance are owned"})
	case err != nil && before == nil:
		do(report{p: -1, what: "partitions cannot be owned", err: err})
	}
}
