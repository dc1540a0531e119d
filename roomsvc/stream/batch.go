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
	// maxBatch is how many records one commit takes on a single server, which allows 1000;
	// maxReplicated on several.
	maxBatch      = 512
	maxReplicated = 256
	// maxBatchBytes bounds what one commit holds, for the server stages it in memory.
	maxBatchBytes = 4 << 20
	// retryPause is how long to wait when another fence is just being taken.
	retryPause = 2 * time.Millisecond
	// maxPause bounds how long a commit waits for more records.
	maxPause = 20 * time.Millisecond
	// maxSynced is how many records are committed one by one on a server that syncs each. An
	// atomic batch costs it about as much as eight of them.
	maxSynced = 8
	// maxRounds is how many rounds of single records a commit takes on a server that does not
	// sync them, where a batch costs as much as at least 64 rounds.
	maxRounds = 64
	// electedGrace is how long answers of the old leader may still take to arrive when there
	// is a new one.
	electedGrace = 50 * time.Millisecond
)

// run commits what has gathered since the last commit, of all partitions asBatch, until
// the connection breaks. One commit is under way at a time: a replicated stream demands that of
// everybody who uses fences (error 10164), and no record can be stored after one of the same
// room was refused.
//
// A commit is an atomic batch, or, where a single server makes that cheaper, rounds of
// single records in which no room occurs twice. The server stages a batch for about 2 ms,
// whatever its size.
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
		// Those whose messages were just stored are about to send the next. Without a pause a
		// commit would take the first of them, and the others wait for a commit of their own.
		if pause = 0; len(batch) > 1 && (staged || l.c.cfg.SyncAlways) {
			pause = min(maxPause, time.Since(begun))
		}
	}
}

// gather adds the records to batch that wait, and those that arrive within the pause.
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

// single reports whether to commit batch by rounds of single records.
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

// commit makes batch durable and tells its sinks. It reports whether that took an atomic
// batch.
func (l *commitConn) commit(batch []entry) (staged bool) {
	// Fences that are void by now would spoil the rest.
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

// oneByOne commits each record of batch by itself. A round has no room twice, so a record
// that is refused leaves no hole.
func (l *commitConn) oneByOne(batch []entry) {
	stored := make([]uint64, len(batch)) // stream sequences
	told := 0                            // records of which the sinks have heard
	round := make([]int, 0, len(batch))  // records by their place in batch
	rest := make([]int, len(batch))      // of the following rounds
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
			case errors.Is(err, errRetry): // only a replicated stream answers so
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
	l.useful()
}

// asBatch commits batch as one atomic batch, which is stored as a whole or not at all. On a
// single server, a batch that one lost fence spoils is tried again partition by partition.
//
// With replicas, a refused batch is never sent again under the same fences. A server that was cut
// off from its peers believes for some seconds that it still leads. When it is back, it receives
// the same records as the real leader, and refuses them while that one stores them: they would
// be stored twice. New fences make sure, because the rooms are then read from the log.
func (l *commitConn) asBatch(batch []entry) {
	seq, err := l.publish(batch)
	switch {
	case err == nil:
		first := seq - uint64(len(batch)) + 1
		for i, e := range batch {
			l.worn.wrote(first+uint64(i), len(e.rec.Payload))
			e.f.committed(first + uint64(i))
		}
		l.useful()
	case !errors.Is(err, ErrLost) && !errors.Is(err, errRetry):
		l.fail(err)
	case l.c.cfg.Replicas == 1 && !l.c.replicated.Load():
		l.byPartition(batch, err)
	default:
		if len(batch) > 1 { // it is not known which fence is lost
			err = fmt.Errorf("%w: a batch was refused: %v", ErrUnavailable, err)
		}
		for _, e := range batch {
			e.f.fail(err)
		}
	}
}

// byPartition commits each partition's part of a batch that was refused, or gives the partition
// up if it stood alone.
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
		if !fenced[e.f] { // the first record of a partition speaks for all
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

// answers returns the prefix of the subjects that the answers to the next commit come to. Each
// commit has its own. A commit can be answered twice: after a split of the network, the former
// leader refuses what the real one has stored. The second answer must not count for a later commit.
func (l *commitConn) answers() string {
	l.count++
	return l.inbox + strconv.FormatUint(l.count, 36) + "."
}

// await takes the n answers to a commit and gives each with its number. It fails if the stream
// owes one for too long: a server whose disk is full, or that has lost its quorum, answers
// nothing, and neither does a former leader.
func (l *commitConn) await(answers string, n int, each func(number int, seq uint64, err error)) error {
	select {
	case <-l.elected: // before anything was sent
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
			each(number, seq, err)
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
