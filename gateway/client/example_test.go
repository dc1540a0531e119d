package client_test

import (
	"context"
	"fmt"
	"log"

	"roomcast/gateway/client"
	"roomcast/proto"
)

// A member shows the last ten messages of a room and then each new one.
func ExampleDial() {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Config{
		URLs: []string{"ws://127.0.0.1:8000", "ws://127.0.0.1:8001"}, Name: "Ann",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Join(ctx, proto.MustRoom("lobby"), proto.From{Last: 10}); err != nil {
		log.Fatal(err)
	}
	for {
		n, err := c.Next(ctx)
		if err != nil {
			log.Fatal(err) // the server has ended the session for good, or ctx has ended
		}
		switch {
		case n.Event != nil:
			fmt.Printf("%d %s: %s\n", n.Event.Seq, n.Event.From.Name, n.Event.Content.Body)
		case n.Gap != nil:
			fmt.Printf("messages %d to %d are no longer in the log\n", n.Gap.From, n.Gap.To)
		case n.Refused != nil:
			fmt.Println("the client has left the room:", n.Refused.Message)
		}
	}
}

// A program restarts. After the restart it continues after the last event that it has handled. It
// is the same sender as before.
func ExampleClient_Join() {
	ctx := context.Background()
	saved := struct {
		Resume string
		Last   proto.From
	}{} // the program has read this from a file
	c, err := client.Dial(ctx, client.Config{URLs: []string{"ws://127.0.0.1:8000"}, Resume: saved.Resume})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	saved.Resume = c.Hello().Resume
	if _, err := c.Join(ctx, proto.MustRoom("lobby"), saved.Last); err != nil {
		log.Fatal(err)
	}
	for {
		n, err := c.Next(ctx)
		if err != nil {
			log.Fatal(err)
		}
		if e := n.Event; e != nil {
			saved.Last.HasSince, saved.Last.Since, saved.Last.At = true, e.Seq, e.At
			if e.Epoch != "" {
				saved.Last.Epoch = e.Epoch
			}
		}
	}
}

func ExampleClient_Say() {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Config{URLs: []string{"ws://127.0.0.1:8000"}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	lobby := proto.MustRoom("lobby")
	if _, err := c.Join(ctx, lobby, proto.From{}); err != nil {
		log.Fatal(err)
	}
	ack, err := c.Say(ctx, lobby, client.Text("hello"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored as", ack.Seq)
}

// A program reads pages backward: each page ends before the previous one begins.
func ExampleClient_History() {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Config{URLs: []string{"ws://127.0.0.1:8000"}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	lobby := proto.MustRoom("lobby")
	if _, err := c.Join(ctx, lobby, proto.From{}); err != nil {
		log.Fatal(err)
	}
	for before, more := uint64(0), true; more; {
		page, err := c.History(ctx, lobby, before, 100)
		if err != nil {
			log.Fatal(err)
		}
		for _, e := range page.Events {
			fmt.Printf("%d %s\n", e.Seq, e.Content.Body)
		}
		more = page.More && len(page.Events) > 0
		if more {
			before = page.Events[0].Seq
		}
	}
}
