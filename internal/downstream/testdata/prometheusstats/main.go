// A program that uses prometheusstats: it gathers the figures of a Hub.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/prometheusstats"
)

func main() {
	var hub broadcast.Hub
	if _, err := hub.Publish(context.Background(), broadcast.Message{Topic: "news", Data: []byte("hello")}); err != nil {
		log.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(&prometheusstats.Collector{Hubs: map[string]prometheusstats.Hub{"hello": &hub}})
	families, err := registry.Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, family := range families {
		metric := family.Metric[0]
		if family.GetName() == "fanfare_hub_published_total" && metric.Counter.GetValue() == 1 {
			fmt.Println(metric.Label[0].GetValue())
		}
	}
}
