//go:build linux

package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"roomcast/scripts/torture/fault"
)

// placeTime is how long a connection may take to move to another server.
const placeTime = 20 * time.Second

// Apart moves the two connections of every room service to different NATS servers. The main
// connection, which is for commands and reads, moves to server target. The commit connection moves
// to another server. To move a connection, Apart resets it. It blocks new connections to the wrong
// servers, until the client has connected to a right server.
func (r *Rig) Apart(ctx context.Context, target int) error {
	ctx, cancel := context.WithTimeout(ctx, placeTime)
	defer cancel()
	servers := r.byRole[fault.NATS]
	if !r.net.own || len(servers) < 2 {
		return errors.New("connections can only be moved as root, between several servers")
	}
	for _, p := range r.byRole[fault.Service] {
		var others []string
		for _, s := range servers {
			if s != servers[target] {
				others = append(others, s.ip)
			}
		}
		if err := r.move(ctx, p, false, others); err != nil {
			return err
		}
		if err := r.move(ctx, p, true, []string{servers[target].ip}); err != nil {
			return err
		}
	}
	return nil
}

// move resets the main or the commit connection of p again and again, until the connection leads to
// a server whose address is not in wrong.
func (r *Rig) move(ctx context.Context, p *Process, commit bool, wrong []string) error {
	p.fault.Lock() // so that no fault stops p or cuts it off meanwhile
	defer p.fault.Unlock()
	defer p.nft("table inet place {}\ndelete table inet place\n")
	for {
		stands, away := false, 0
		for _, s := range r.byRole[fault.NATS] {
			list, err := connections(ctx, s)
			if err != nil {
				continue // this server does not run, so it has no connections
			}
			for _, c := range list {
				if c.IP != p.ip || !strings.HasPrefix(c.Name, "roomsvc/") || strings.HasSuffix(c.Name, "/commit") != commit {
					continue
				}
				stands = true
				if slices.Contains(wrong, s.ip) {
					away = c.Port
				}
			}
		}
		if stands && away == 0 {
			return nil
		}
		if away != 0 {
			if err := r.reset(p, away, wrong); err != nil {
				return fmt.Errorf("move a connection of %s: %w", p.Name, err)
			}
		}
		sleep(ctx, 200*time.Millisecond)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("move a connection of %s: %w", p.Name, err)
		}
	}
}

// reset ends p's connection from the local port, and blocks new connections from p to the
// addresses in wrong.
func (r *Rig) reset(p *Process, port int, wrong []string) error {
	rules := "table inet place {}\ndelete table inet place\ntable inet place {\nchain out { type filter hook output priority 0; " +
		fmt.Sprintf("ip daddr { %s } tcp flags & (syn | ack) == syn reject with tcp reset; }\n}\n", strings.Join(wrong, ", "))
	if err := p.nft(rules); err != nil {
		return err
	}
	return run(context.Background(), "ip", "netns", "exec", p.space, "ss", "-K", "-t", "sport", "=", strconv.Itoa(port))
}

// connection describes one client connection in the monitoring API of a NATS server.
type connection struct {
	IP   string
	Port int
	Name string
}

func connections(ctx context.Context, server *Process) ([]connection, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+server.ops+"/connz?limit=1000", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var list struct {
		Connections []connection
	}
	err = json.NewDecoder(resp.Body).Decode(&list)
	return list.Connections, err
}
