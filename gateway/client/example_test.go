package client_test

import (
	"context"
	"fmt"
	"log"

	"roomcast/gateway/client"
	"roomcast/proto"
)

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
			log.Fatal(err) // the server has said not to come back, or ctx has ended
		}
		switch {
		case n.Event != nil:
			fmt.Printf("%d %s: %s\n", n.Event.Seq, n.Event.From.Name, n.Event.Content.Body)
		case n.Gap != nil:
			fmt.Printf("%d to %d can no longer be had\n", n.Gap.From, n.Gap.To)
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
