package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"roomcast/proto"
	"roomcast/roomsvc/stream"
)

// witnessEvery is how often the service stores how far the log has come. What the log
// loses of the time since then is not noticed, unless a process remembers it.
const witnessEvery = time.Second

// lostEnd reports a log that has lost its end. The committer calls it once for each loss.
func (s *Service) lostEnd(l stream.Loss) {
	s.metrics.lost.Add(float64(l.Missing))
	s.metrics.losses.Inc()
	what := "the log has lost its end: acknowledged messages are gone, and rooms begin new epochs"
	if l.Created {
		what = "the log is another one than before: acknowledged messages may be gone, and rooms begin new epochs"
	}
	s.cfg.Log.Error(what, "stream", proto.StreamName, "missing_sequences", l.Missing, "last_sequence", l.Cut)
}

// keepWitness stores how far the log has come, in the stream of snapshots and in the
// witness file if there is one, until ctx ends.
func (s *Service) keepWitness(ctx context.Context) {
	tick := time.NewTicker(witnessEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.storeWitness(context.WithoutCancel(ctx)) // a clean stop leaves nothing out
			return
		case <-tick.C:
			s.storeWitness(ctx)
		}
	}
}

func (s *Service) storeWitness(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Commit)
	defer cancel()
	if err := s.writeWitnessFile(s.commits.Witness()); err != nil {
		s.cfg.Log.Warn("write witness file", "error", err)
	}
	if !s.nc.IsConnected() {
		return
	}
	// Another instance that writes at the same time is no error: one of the two has written.
	if err := s.commits.KeepWitness(ctx, s.nc); err != nil && !errors.Is(err, stream.ErrLost) {
		s.cfg.Log.Debug("store witness", "error", err)
	}
}

// readWitnessFile returns what the file of an earlier process holds.
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

// writeWitnessFile replaces the file if something has changed, and syncs it.
func (s *Service) writeWitnessFile(w proto.Witness) error {
	if s.cfg.WitnessFile == "" || w == s.filed || w.Created.IsZero() {
		return nil
	}
	data, err := json.Marshal(w)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(s.cfg.WitnessFile), ".witness-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once the file has its name
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), s.cfg.WitnessFile)
	}
	if err == nil {
		s.filed = w
	}
	return err
}
