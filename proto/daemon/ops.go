package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/pflag"
)

// Ops is the listener for operators. It shows metrics and profiles to whoever reaches
// it and so has an address of its own, never the public one.
type Ops struct {
	Listen string // host:port, or "off"
}

// Bind makes the flag.
func (o *Ops) Bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.Listen, "ops-listen", o.Listen, "serve /metrics, /healthz, /readyz and /debug/pprof on this `address`, or off; whoever reaches it sees inside")
}

// Probe is one condition of being ready.
type Probe struct {
	Name  string
	Ready func() error // nil, or why not; safe for any goroutine
}

// NewRegistry returns a registry that has the Go runtime and the process in it.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// Serve starts the listener and returns a function that waits for its end, which
// comes when ctx ends. /healthz says that the process runs; /readyz says whether all
// probes pass, and which do not and why.
func (o Ops) Serve(ctx context.Context, log *slog.Logger, reg *prometheus.Registry, probes ...Probe) (wait func(), err error) {
	if o.Listen == "off" {
		return func() {}, nil
	}
	ln, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("--ops-listen: %w", err)
	}
	server := &http.Server{
		Handler:           opsHandler(reg, probes),
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(ln)
	}()
	stop := context.AfterFunc(ctx, func() { server.Close() })
	return func() {
		<-done
		stop()
	}, nil
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
