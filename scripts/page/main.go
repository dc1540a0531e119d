//go:build linux

// Command page measures the chat page in Chromium, and prints a Markdown table. On a slow network
// and a slow machine, it measures the time until the page is connected, and the size of the
// downloads. It also measures the memory of the page, and its CPU time while messages arrive.
//
//	go run ./scripts/page -gateway PROGRAM
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"

	"roomcast/gateway/client"
	"roomcast/proto"
)

// The conditions of a slow visit, such as one by a phone that is far away from the server.
const (
	latency  = 400    // ms
	speed    = 50_000 // bytes a second
	slowdown = 4      // factor by which the CPU is slowed down
	visits   = 5      // number of visits; the table has the median
	messages = 20_000 // number of messages before memory is measured
	paced    = 50     // messages a second while CPU time is measured
	window   = 20 * time.Second
)

// measurement is a running gateway with the address of its page.
type measurement struct {
	dir     string
	address string
	gateway *exec.Cmd
}

func main() {
	program := flag.String("gateway", "", "run this gateway `program`, which go build has made")
	flag.Parse()
	if *program == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := measure(*program); err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		os.Exit(1)
	}
}

func measure(program string) error {
	m, err := start(program)
	if err != nil {
		return err
	}
	defer m.stop()
	fmt.Println("| what | figure | limit |\n| --- | --- | --- |")
	for _, part := range []func() error{m.slowVisits, m.memory, m.cpu} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func start(program string) (*measurement, error) {
	dir, err := os.MkdirTemp("", "roomcast-page-")
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &measurement{dir: dir, address: ln.Addr().String()}
	ln.Close()
	m.gateway = exec.Command(program, "--listen", m.address, "--data-dir", dir+"/data", "--ops-listen", "off", "--nats-monitor", "off",
		"--sync", "1s", "--rate", "0", "--log-level", "error", "--history-per-room", "1000")
	if err := m.gateway.Start(); err != nil {
		return nil, fmt.Errorf("start gateway: %w", err)
	}
	for range 500 {
		if r, err := http.Get("http://" + m.address + "/"); err == nil {
			r.Body.Close()
			return m, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	m.stop()
	return nil, errors.New("the gateway does not serve")
}

func (m *measurement) stop() {
	m.gateway.Process.Kill()
	m.gateway.Wait()
	os.RemoveAll(m.dir)
}

// browse starts a browser with an empty profile.
func (m *measurement) browse() (ctx context.Context, profile string, stop func(), err error) {
	if profile, err = os.MkdirTemp(m.dir, "profile-"); err != nil {
		return nil, "", nil, err
	}
	flags := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.UserDataDir(profile), chromedp.Flag("lang", "en-US"))
	allocated, cancel := chromedp.NewExecAllocator(context.Background(), flags...)
	ctx, closeTab := chromedp.NewContext(allocated)
	stop = func() { closeTab(); cancel() }
	return ctx, profile, stop, chromedp.Do(ctx, chromedp.EmulateViewport(1280, 800))
}

// opened is a script that returns when the page has connected, in ms since the navigation began.
const opened = `new Promise((done) => {
	const timer = setInterval(() => { if (window.openedAt) { clearInterval(timer); done(window.openedAt); } }, 10);
})`

const watch = `new MutationObserver(() => { if (document.body?.dataset.state === "open") window.openedAt ||= performance.now(); })
	.observe(document, { attributes: true, subtree: true, attributeFilter: ["data-state"] });`

// slowVisits measures the duration and the downloads of first visits under slow conditions.
func (m *measurement) slowVisits() error {
	var times []float64
	var got struct{ Requests, Bytes int }
	for range visits {
		ctx, _, stop, err := m.browse()
		if err == nil {
			err = slow(ctx)
		}
		if err == nil {
			err = chromedp.Do(ctx, chromedp.Navigate("http://"+m.address+"/room/visit/"))
		}
		if err == nil {
			var ms float64
			ms, err = chromedp.Run(ctx, chromedp.Evaluate[float64](opened, chromedp.EvalAwaitPromise))
			times = append(times, ms/1000)
		}
		if err == nil {
			got, err = chromedp.Run(ctx, chromedp.Evaluate[struct{ Requests, Bytes int }](`(() => {
				const all = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
				return { Requests: all.length, Bytes: all.reduce((sum, e) => sum + e.transferSize, 0) };
			})()`))
		}
		stop()
		if err != nil {
			return fmt.Errorf("visit: %w", err)
		}
	}
	slices.Sort(times)
	fmt.Printf("| connected, at %d ms, %d KB/s and a CPU slowed %d times (median of %d; all: %.2f s) | %.2f s | 2.5 s |\n",
		latency, speed/1000, slowdown, visits, times, times[len(times)/2])
	fmt.Printf("| requests and bytes of a first visit, with headers | %d, %.1f KB | |\n", got.Requests, float64(got.Bytes)/1000)
	return nil
}

// slow slows down the network and the CPU of a tab.
func slow(ctx context.Context) error {
	conditions := &network.Conditions{Latency: latency, DownloadThroughput: speed, UploadThroughput: speed}
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		return err
	}
	if _, err := chromedp.Call(ctx, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: []*network.Conditions{conditions}}); err != nil {
		return err
	}
	if _, err := chromedp.Call(ctx, emulation.SetCPUThrottlingRate, emulation.SetCPUThrottlingRateParams{Rate: slowdown}); err != nil {
		return err
	}
	_, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watch})
	return err
}

// open opens the page of a room.
func (m *measurement) open(ctx context.Context, room string) error {
	if err := chromedp.Do(ctx, chromedp.Navigate("http://"+m.address+"/room/"+room+"/")); err != nil {
		return err
	}
	_, err := chromedp.Run(ctx, chromedp.Poll[chromedp.Void](`document.body.dataset.room === "joined"`))
	return err
}

// say sends n messages, with a pause after each.
func (m *measurement) say(room string, n int, pause time.Duration) error {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Config{URLs: []string{"ws://" + m.address}, Name: "Speaker"})
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Join(ctx, proto.MustRoom(room), proto.From{}); err != nil {
		return err
	}
	go func() {
		for err := error(nil); err == nil; {
			_, err = c.Next(ctx)
		}
	}()
	for i := range n {
		due := time.After(pause)
		if _, err := c.Say(ctx, proto.MustRoom(room), client.Text(fmt.Sprintf("message %d, which is about as long as a typical message", i))); err != nil {
			return err
		}
		<-due
	}
	return nil
}

// memory measures the memory and the DOM nodes of the page after many messages.
func (m *measurement) memory() error {
	ctx, _, stop, err := m.browse()
	if err != nil {
		return err
	}
	defer stop()
	if err := m.open(ctx, "big"); err != nil {
		return err
	}
	const parts = 4
	for part := range parts + 1 {
		if part > 0 {
			if err := m.say("big", messages/parts, 0); err != nil {
				return err
			}
			time.Sleep(time.Second) // time for the page to render the last messages
		}
		got, err := metrics(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("| heap and nodes after %d messages | %.2f MB, %.0f | bounded |\n", part*messages/parts, got["JSHeapUsedSize"]/1e6, got["Nodes"])
	}
	return nil
}

// metrics makes a page collect garbage, and returns Chromium's metrics of the page.
func metrics(ctx context.Context) (map[string]float64, error) {
	if _, err := chromedp.Call(ctx, performance.Enable, performance.EnableParams{}); err != nil {
		return nil, err
	}
	if _, err := chromedp.Call(ctx, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
		return nil, err
	}
	result, err := chromedp.Call(ctx, performance.GetMetrics, cdp.Empty{})
	got := map[string]float64{}
	if err == nil {
		for _, metric := range result.Metrics {
			got[metric.Name] = metric.Value
		}
	}
	return got, err
}
