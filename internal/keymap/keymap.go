// Package keymap applies the envelopes of a stream to a map, as a page does that shows the
// newest value of each Key.
package keymap

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// Apply applies an envelope to values, by topic and Key. The error of what is no envelope says
// what came instead; the caller adds how a client gets envelopes.
func Apply(values map[string]map[string]string, envelope []byte) error {
	var e struct {
		Topic                                *string
		Topics                               []string
		Key, Data, Encoding                  string
		Removed                              bool
		Ready, Begin, Gap, Position, Renewed string
		End                                  any
	}
	if json.Unmarshal(envelope, &e) != nil {
		return noEnvelope(envelope)
	}
	switch {
	case e.Topic == nil && e.Begin != "" && e.Topics == nil:
		clear(values)
	case e.Topic == nil && e.Begin != "":
		for _, topic := range e.Topics {
			delete(values, topic)
		}
	case e.Topic == nil:
		if e.Ready+e.Gap+e.Position+e.Renewed == "" && e.End == nil {
			return noEnvelope(envelope)
		}
	case e.Key == "": // an event
	case e.Removed:
		delete(values[*e.Topic], e.Key)
		if len(values[*e.Topic]) == 0 {
			delete(values, *e.Topic)
		}
	default:
		if e.Encoding == "base64" {
			data, err := base64.StdEncoding.DecodeString(e.Data)
			if err != nil {
				return noEnvelope(envelope)
			}
			e.Data = string(data)
		}
		if values[*e.Topic] == nil {
			values[*e.Topic] = make(map[string]string)
		}
		values[*e.Topic][e.Key] = e.Data
	}
	return nil
}

func noEnvelope(text []byte) error {
	const shown = 80 // a message may be long
	return fmt.Errorf("%.*q is no envelope", shown, text)
}
