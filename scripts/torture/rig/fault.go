//go:build linux

package rig

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	"roomcast/scripts/torture/fault"
)

// Do injects the fault of a step and ends it when its time is over or ctx ends. If another fault
// hits the same process, Do first waits for the end of that fault.
func (r *Rig) Do(ctx context.Context, s fault.Step) error {
	targets := r.byRole[s.Role][s.Target : s.Target+1]
	switch s.Kind {
	case fault.Outage, fault.Restore, fault.Power:
		targets = r.byRole[s.Role]
	case fault.Trim, fault.Purge:
		return r.operate(ctx, s)
	case fault.Edit:
		// A room service that starts while the log has other settings exits with an error, which is
		// no crash.
		targets = r.byRole[fault.Service]
	}
	for _, p := range targets {
		p.fault.Lock()
		defer p.fault.Unlock()
	}
	switch s.Kind {
	case fault.Edit, fault.Restore, fault.Power:
		r.settings.Lock()
		defer r.settings.Unlock()
	}
	p := targets[0]
	switch s.Kind {
	case fault.Kill, fault.Outage:
		kill(targets)
		sleep(ctx, s.For)
	case fault.Restore:
		if err := restore(ctx, targets, s.For); err != nil {
			return err
		}
	case fault.Power:
		if err := r.losePower(ctx, targets, s.For); err != nil {
			return err
		}
	case fault.Flip:
		if err := p.flip(ctx, s); err != nil {
			return err
		}
	case fault.Edit:
		for _, p := range targets {
			awaitStarted(ctx, p)
		}
		if err := r.operate(ctx, s); err != nil {
			return err
		}
	case fault.Clock:
		return p.skew(ctx, s)
	case fault.Term:
		if p.stop() {
			return fmt.Errorf("%s did not end within %v of SIGTERM", p.Name, stopTime)
		}
		sleep(ctx, s.For)
	case fault.LameDuck:
		p.signal(syscall.SIGUSR2, true)
		sleep(ctx, s.For)
		p.stop() // ignore the result: a server in lame duck mode may need longer than stopTime
	case fault.Pause:
		p.signal(syscall.SIGSTOP, false)
		sleep(ctx, s.For)
		p.signal(syscall.SIGCONT, false)
	case fault.Cut, fault.CutIn, fault.CutOut, fault.Split:
		if err := r.cut(p, s.Kind); err != nil {
			return err
		}
		sleep(ctx, s.For)
		return p.reconnect()
	case fault.Full:
		p.mayEnd() // a process that is just starting may exit with an error, which is no crash
		if err := p.fillDisk(); err != nil {
			return err
		}
		sleep(ctx, s.For)
		if err := p.emptyDisk(); err != nil {
			return err
		}
		// After an I/O error, the server does not write to the stream until it is started again.
		p.stop()
	}
	for _, p := range targets {
		if err := p.Start(); err != nil {
			return err
		}
	}
	return nil
}

// kill kills all of the processes at the same time.
func kill(list []*Process) {
	for _, p := range list {
		p.signal(syscall.SIGKILL, true)
	}
	for _, p := range list {
		<-p.signal(syscall.SIGKILL, true)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// cut drops the packets between p and its peers. The peers of a server are all other processes,
// or only the other servers if k is Split. The peers of another process are the servers.
func (r *Rig) cut(p *Process, k fault.Kind) error {
	var peers []string
	for _, peer := range r.all {
		if k == fault.Split && peer.Role != fault.NATS {
			continue
		}
		if peer != p && (p.Role == fault.NATS || peer.Role == fault.NATS) {
			peers = append(peers, peer.ip)
		}
	}
	rules := "table inet torture {\n"
	if k != fault.CutOut {
		rules += "chain in { type filter hook input priority 0; ip saddr { " + strings.Join(peers, ", ") + " } drop; }\n"
	}
	if k != fault.CutIn {
		rules += "chain out { type filter hook output priority 0; ip daddr { " + strings.Join(peers, ", ") + " } drop; }\n"
	}
	return p.nft(rules + "}\n")
}

func (p *Process) reconnect() error { return p.nft("delete table inet torture") }

func (p *Process) nft(rules string) error {
	return run(context.Background(), "ip", "netns", "exec", p.space, "nft", rules)
}
