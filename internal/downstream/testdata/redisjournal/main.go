// A program that uses redisjournal: a Hub with a journal whose client connects later.
package main

import (
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/redisjournal"
)

func main() {
	client := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	defer client.Close()
	hub := &broadcast.Hub{Journal: &redisjournal.Journal{Client: client, Key: "hello"}}
	defer hub.Close()
	fmt.Println(hub.Journal.(*redisjournal.Journal).Key)
}
