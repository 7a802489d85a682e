// A program that uses natsjournal: a Hub with a journal that has no connection yet.
package main

import (
	"fmt"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/natsjournal"
)

func main() {
	hub := &broadcast.Hub{Journal: &natsjournal.Journal{Stream: "hello"}}
	defer hub.Close()
	fmt.Println(hub.Journal.(*natsjournal.Journal).Stream)
}
