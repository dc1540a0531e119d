package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coder/websocket"
	"github.com/nats-io/nats.go"
)

// standIns replace programs in the README that may not be installed on a test machine. They
// understand only the arguments in the README. The test binary contains them.
var standIns = map[string]func(args []string) error{"wscat": wscat, "nats": natsCLI}

// runStandIn makes the test binary behave as wscat or nats if it was started under that name.
// Otherwise it returns false.
func runStandIn() bool {
	run := standIns[filepath.Base(os.Args[0])]
	if run == nil {
		return false
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// wscat does what the command "wscat -c URL" does: it prints received frames and sends the lines of
// its input.
func wscat(args []string) error {
	if len(args) != 2 || args[0] != "-c" {
		return fmt.Errorf("wscat: unexpected arguments %q", args)
	}
	ctx := context.Background()
	conn, _, err := websocket.Dial(ctx, args[1], nil)
	if err != nil {
		return err
	}
	fmt.Println("connected")
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			conn.Write(ctx, websocket.MessageText, lines.Bytes())
		}
	}()
	for {
		_, p, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("< %s\n", p)
	}
}

// natsCLI does what the commands "nats sub SUBJECT" and "nats req SUBJECT PAYLOAD" do.
func natsCLI(args []string) error {
	nc, err := nats.Connect(nats.DefaultURL)
	if err != nil {
		return err
	}
	switch {
	case len(args) == 2 && args[0] == "sub":
		if _, err := nc.Subscribe(args[1], func(m *nats.Msg) { fmt.Printf("[%s] %s\n", m.Subject, m.Data) }); err != nil {
			return err
		}
		if err := nc.Flush(); err != nil {
			return err
		}
		fmt.Println("connected")
		select {}
	case len(args) == 3 && args[0] == "req":
		m, err := nc.Request(args[1], []byte(args[2]), nats.DefaultTimeout*5)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", m.Data)
		return nil
	}
	return fmt.Errorf("nats: unexpected arguments %q", args)
}
