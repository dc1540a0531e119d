package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/pflag"
)

// Ops contains the settings of the listener for operators. Everybody who can reach the listener
// can read metrics and profiles. So it must have an address of its own that is not public.
type Ops struct {
	Listen string // host:port, or "off"
}

// Bind registers the flag.
func (o *Ops) Bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.Listen, "ops-listen", o.Listen, "serve /metrics, /healthz, /readyz and /debug/pprof on this `address`, without authentication; off disables it")
}

// Probe is one of the conditions for readiness.
type Probe struct {
	Name  string
	Ready func() error // returns nil if the condition is met; safe for concurrent use
}

// NewRegistry returns a registry that contains the metrics of the Go runtime and of the process.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// OpsServer is a running listener for operators. A nil *OpsServer means that there is no
// listener.
type OpsServer struct {
	ln     net.Listener
	server *http.Server
	done   chan struct{}
}

// Serve starts the listener. The caller must close it. /healthz shows that the process runs.
// /readyz shows whether all probes succeed, and lists the errors of those that do not.
func (o Ops) Serve(log *slog.Logger, reg *prometheus.Registry, probes ...Probe) (*OpsServer, error) {
	if o.Listen == "off" {
		return nil, nil
	}
	ln, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("--ops-listen: %w; choose another address, or off", err)
	}
	server := &http.Server{
		Handler:           forOperators(IsLoopback(ln.Addr().String()), opsHandler(reg, probes)),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	s := &OpsServer{ln: ln, server: server, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		server.Serve(&fewConns{Listener: ln})
	}()
	return s, nil
}

// Addr returns the address of the listener.
func (s *OpsServer) Addr() net.Addr { return s.ln.Addr() }

// Close stops the listener.
func (s *OpsServer) Close() {
	if s != nil {
		s.server.Close()
		<-s.done
	}
}

// IsLoopback reports whether host is a name or address of this machine. The host may contain a
// port.
func IsLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// forOperators refuses requests that a page of another site makes in an operator's browser. On a
// loopback address, it also refuses requests whose Host is not a loopback name. Otherwise the
// page could make its own name point to this machine (DNS rebinding).
func forOperators(loopback bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch site := r.Header.Get("Sec-Fetch-Site"); {
		case loopback && !IsLoopback(r.Host):
			http.Error(w, "this listener accepts only requests whose Host names this machine", http.StatusForbidden)
		case site != "" && site != "same-origin" && site != "none" || r.Header.Get("Origin") != "":
			http.Error(w, "this listener refuses pages of other sites", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func opsHandler(reg *prometheus.Registry, probes []Probe) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		var reasons []string
		for _, p := range probes {
			if err := p.Ready(); err != nil {
				reasons = append(reasons, fmt.Sprintf("%s: %v", p.Name, err))
			}
		}
		if len(reasons) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			for _, r := range reasons {
				fmt.Fprintln(w, r)
			}
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
