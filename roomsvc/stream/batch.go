package stream

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"roomcast/proto"
)

const (
	// maxBatch limits the number of records in one commit on a single server; NATS allows 1000.
	// maxReplicated is the limit if the stream has replicas.
	maxBatch      = 512
	maxReplicated = 256
	// maxBatchBytes limits the bytes of one commit, because the server stages them in memory.
	maxBatchBytes = 4 << 20
	// retryPause is how long to wait after the refusal errRetry, before the message is sent again.
	retryPause = 2 * time.Millisecond
	// maxPause limits how long a commit waits for more records.
	maxPause = 20 * time.Millisecond
	// maxSynced limits the records of a commit that are sent one by one to a server that syncs each
	// record. An atomic batch costs that server about as much as eight single records.
	maxSynced = 8
	// maxRounds limits the rounds of a commit (see run) on a server that does not sync each record.
	// An atomic batch costs that server at least as much as 64 rounds.
	maxRounds = 64
	// electedGrace is for how long await accepts answers of the old leader of the stream, after
	// another leader was elected.
	electedGrace = 50 * time.Millisecond
)

// run commits the waiting records of all partitions together, again and again, until the connection
// breaks. It waits for the result of one commit before it sends the next, for two reasons. A
// replicated stream refuses a message while it stores another message under the same fence (error
// 10164). And if the server refuses a record, the stream must not contain a later record of the
// same room.
//
// Usually a commit is one atomic batch. But a server waits for about 2 ms before it stores a batch.
// So on a single server, a small commit is cheaper as a sequence of rounds. A round sends single
// records, at most one of each room. For example, three records of one room need three rounds.
func (l *commitConn) run() {
	batch := make([]entry, 0, l.most)
	pause := time.Duration(0)
	for {
		select {
		case first := <-l.queue:
			batch = append(batch[:0], first)
		case <-l.broke:
			return
		}
		batch = l.gather(batch, pause)
		begun := time.Now()
		staged := l.commit(batch)
		l.maxPayload.Store(l.nc.MaxPayload())
		// The senders of the stored messages are about to send more. Without a pause, the next
		// commit would contain only the first of the new messages.
		if pause = 0; len(batch) > 1 && (staged || l.c.cfg.SyncAlways) {
			pause = min(maxPause, time.Since(begun))
		}
	}
}

// gather adds the waiting records to batch, and also records that arrive within the pause.
func (l *commitConn) gather(batch []entry, pause time.Duration) []entry {
	var over <-chan time.Time
	for size := len(batch[0].rec.Payload); len(batch) < l.most && size < maxBatchBytes; {
		var next entry
		select {
		case next = <-l.queue:
		default:
			if pause <= 0 {
				return batch
			}
			if over == nil {
				timer := time.NewTimer(pause)
				defer timer.Stop()
				over = timer.C
			}
			select {
			case next = <-l.queue:
			case <-over:
				return batch
			case <-l.broke:
				return batch
			}
		}
		batch = append(batch, next)
		size += len(next.rec.Payload)
	}
	return batch
}

// single reports whether to commit batch in rounds of single records.
func (l *commitConn) single(batch []entry) bool {
	switch {
	case l.c.cfg.Replicas > 1 || l.c.replicated.Load() || len(batch) == 1:
		return false
	case l.c.cfg.SyncAlways:
		return len(batch) <= maxSynced
	case len(batch) <= maxRounds:
		return true
	}
	most := 0
	rooms := make(map[proto.Room]int, len(batch))
	for _, e := range batch {
		rooms[e.rec.Room]++
		most = max(most, rooms[e.rec.Room])
	}
	return most <= maxRounds
}

// commit stores batch and reports the results to the sinks. It returns true if it used an atomic
// batch.
func (l *commitConn) commit(batch []entry) (staged bool) {
	// Leave out records with a void fence. One such record would make the server refuse the whole
	// batch.
	live := make([]entry, 0, len(batch))
	for _, e := range batch {
		if e.f.Void() == nil {
			live = append(live, e)
		}
	}
	switch {
	case len(live) == 0:
	case l.single(live):
		l.oneByOne(live)
	default:
		l.asBatch(live)
		staged = len(live) > 1
	}
	return staged
}

// oneByOne commits the records of batch one by one, in rounds. A round has at most one record of
// each room. So if a record is refused, no later record of its room is stored.
func (l *commitConn) oneByOne(batch []entry) {
	stored := make([]uint64, len(batch)) // stream sequences
	told := 0                            // number of records whose results the sinks have received
	round := make([]int, 0, len(batch))  // indexes in batch of the records of this round
	rest := make([]int, len(batch))      // indexes in batch of the records for later rounds
	for i := range rest {
		rest[i] = i
	}
	busy := make(map[proto.Room]bool, len(batch))
	for len(rest) > 0 {
		clear(busy)
		round = round[:0]
		later := rest[:0]
		answers := l.answers()
		for _, i := range rest {
			e := batch[i]
			switch {
			case e.f.Void() != nil:
				continue
			case busy[e.rec.Room]:
				later = append(later, i)
				continue
			}
			busy[e.rec.Room] = true
			msg := l.out.write(e.rec, l.c.cfg.Keys)
			l.out.fence(e.f)
			msg.Reply = answers + strconv.Itoa(len(round))
			if err := l.nc.PublishMsg(msg); err != nil {
				l.fail(unavailable(err))
				return
			}
			round = append(round, i)
		}
		rest = later
		var gone error
		err := l.await(answers, len(round), func(number int, seq uint64, err error) {
			switch {
			case err == nil:
				stored[round[number]] = seq
				return
			case errors.Is(err, errRetry): // a single server does not answer with this error
				l.c.replicated.Store(true)
			case away(err):
				gone = err
			}
			batch[round[number]].f.fail(err)
		})
		if err = cmp.Or(err, gone); err != nil {
			l.fail(err)
			return
		}
		for ; told < len(batch) && (stored[told] > 0 || batch[told].f.Void() != nil); told++ {
			if e := batch[told]; stored[told] > 0 {
				l.worn.wrote(stored[told], len(e.rec.Payload))
				e.f.committed(stored[told])
			}
		}
	}
	l.works()
}

// asBatch commits batch as one atomic batch: the server stores all of it or nothing. A single
// server may refuse the batch because of one lost fence. Then asBatch commits the records again, in
// one batch for each partition.
//
// With replicas it never sends a refused batch again under the same fences, because the refusal may
// be wrong. A server that was cut off from its peers believes for some seconds that it still leads.
// When that server is connected again, it and the real leader both receive the batch. That server
// refuses the batch, but the real leader stores it. If the batch were sent again, the records would
// be stored twice. With new fences this cannot happen, because a new term reads the rooms from the
// log first.
func (l *commitConn) asBatch(batch []entry) {
	seq, err := l.publish(batch)
	switch {
	case err == nil:
		first := seq - uint64(len(batch)) + 1
		for i, e := range batch {
			l.worn.wrote(first+uint64(i), len(e.rec.Payload))
			e.f.committed(first + uint64(i))
		}
		l.works()
	case !errors.Is(err, ErrLost) && !errors.Is(err, errRetry):
		l.fail(err)
	case l.c.cfg.Replicas == 1 && !l.c.replicated.Load():
		l.byPartition(batch, err)
	default:
		if len(batch) > 1 { // the server does not say which fence is lost
			err = fmt.Errorf("%w: a batch was refused: %v", ErrUnavailable, err)
		}
		for _, e := range batch {
			e.f.fail(err)
		}
	}
}

// byPartition commits a refused batch again, in one batch for each partition. If all its records
// are of one partition, the fence of that partition is lost.
func (l *commitConn) byPartition(batch []entry, err error) {
	parts := make(map[*Fence][]entry)
	for _, e := range batch {
		parts[e.f] = append(parts[e.f], e)
	}
	for f, part := range parts {
		if len(parts) == 1 {
			f.fail(err)
		} else {
			l.commit(part)
		}
	}
}

// publish sends the batch and returns the stream sequence of its last record.
func (l *commitConn) publish(batch []entry) (last uint64, err error) {
	answers := l.answers()
	id := l.id + strconv.FormatUint(l.count, 36)
	fenced := make(map[*Fence]bool, 1)
	for i, e := range batch {
		msg := l.out.write(e.rec, l.c.cfg.Keys)
		if !fenced[e.f] { // name each fence only once in a batch, because the server checks it once
			fenced[e.f] = true
			l.out.fence(e.f)
		}
		if len(batch) > 1 {
			l.out.put(headerBatchID, id)
			l.out.put(headerBatchSeq, strconv.Itoa(i+1))
			if i+1 == len(batch) {
				l.out.put(headerBatchCommit, "1")
			}
		}
		if i+1 == len(batch) {
			msg.Reply = answers + "0"
		}
		if err := l.nc.PublishMsg(msg); err != nil {
			return 0, unavailable(err)
		}
	}
	silent := l.await(answers, 1, func(_ int, seq uint64, no error) { last, err = seq, no })
	if silent != nil {
		return 0, silent
	}
	return last, err
}

// answers returns the prefix of the reply subjects of the next commit. Each commit has its own
// prefix, so that a late answer to one commit does not count for the next. For example, after a
// split of the network the real leader stores a record, and then the former leader refuses the same
// record.
func (l *commitConn) answers() string {
	l.count++
	return l.inbox + strconv.FormatUint(l.count, 36) + "."
}

// await waits for the n answers to a commit, and calls handle for each of them. It fails if an
// answer does not arrive in time. A server gives no answer if its disk is full, if it has lost its
// quorum, or if it no longer leads.
func (l *commitConn) await(answers string, n int, handle func(number int, seq uint64, err error)) error {
	select {
	case <-l.elected: // ignore an election before this commit
	default:
	}
	late := time.NewTimer(l.c.cfg.Deadline)
	defer late.Stop()
	answered := make([]bool, n)
	for due := n; due > 0; {
		select {
		case msg := <-l.acks:
			digits, ours := strings.CutPrefix(msg.Subject, answers)
			number, err := strconv.Atoi(digits)
			if !ours || err != nil || number < 0 || number >= n || answered[number] {
				continue
			}
			answered[number] = true
			due--
			seq, err := parseAck(msg)
			handle(number, seq, err)
		case <-l.elected:
			late.Reset(electedGrace)
		case <-late.C:
			return errSilent
		case <-l.broke:
			return l.err
		}
	}
	return nil
}
