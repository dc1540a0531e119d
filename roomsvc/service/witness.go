package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"

	"roomcast/proto"
	"roomcast/roomsvc/stream"
)

// witnessEvery is how often the service stores the witness. A later process notices only the loss
// of records that the stored witness includes. The loss of newer records is noticed only by a
// process that has seen these records.
const witnessEvery = time.Second

// lostEnd reports a log that has lost its end. The committer calls it once for each loss.
func (s *Service) lostEnd(l stream.Loss) {
	s.metrics.lost.Add(float64(l.Missing))
	s.metrics.losses.Inc()
	what := "the log has lost its end: acknowledged messages are gone, and rooms begin new epochs"
	if l.Created {
		what = "the log was replaced by another one: acknowledged messages may be gone, and rooms begin new epochs"
	}
	s.cfg.Log.Error(what, "stream", proto.StreamName, "missing_sequences", l.Missing, "last_sequence", l.Cut)
}

// witness stores the last stream sequence of the log. With it, a later process notices that the log
// has lost its end. It belongs to one goroutine.
type witness struct {
	file     string // "" = none
	commits  *stream.Committer
	nc       *nats.Conn
	deadline time.Duration
	log      *slog.Logger
	filed    proto.Witness // the content of the file
}

func newWitness(s *Service) *witness {
	return &witness{file: s.cfg.WitnessFile, commits: s.commits, nc: s.nc, deadline: s.cfg.Commit, log: s.cfg.Log}
}

// keep stores the witness again and again, until ctx ends. One copy goes to the stream of
// snapshots, and another one to the witness file if there is a file.
func (w *witness) keep(ctx context.Context) {
	tick := time.NewTicker(witnessEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			w.store(context.WithoutCancel(ctx)) // after a clean stop the witness is complete
			return
		case <-tick.C:
			w.store(ctx)
		}
	}
}

func (w *witness) store(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, w.deadline)
	defer cancel()
	if err := w.writeFile(w.commits.Witness()); err != nil {
		w.log.Warn("write witness file", "error", err)
	}
	if !w.nc.IsConnected() {
		return
	}
	// ErrLost is not logged. It means that another instance has stored the witness at the same
	// time.
	if err := w.commits.KeepWitness(ctx, w.nc); err != nil && !errors.Is(err, stream.ErrLost) {
		w.log.Debug("store witness", "error", err)
	}
}

// readWitnessFile returns the witness that an earlier process has stored.
func readWitnessFile(path string) (w proto.Witness, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &w)
	}
	if err != nil {
		return w, fmt.Errorf("read witness file: %w; remove %s if the log beside it is known to be whole", err, path)
	}
	return w, nil
}

// writeFile replaces the file if the witness has changed since the last write, and syncs it to
// disk.
func (w *witness) writeFile(known proto.Witness) error {
	if w.file == "" || known == w.filed || known.Created.IsZero() {
		return nil
	}
	data, err := json.Marshal(known)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(w.file), ".witness-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // has no effect after the rename
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), w.file)
	}
	if err == nil {
		w.filed = known
	}
	return err
}
