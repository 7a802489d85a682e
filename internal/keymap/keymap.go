// Package keymap applies the envelopes of a stream to a map, as a page does that shows the
// newest value of each Key.
package keymap

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// Apply applies an envelope to values, by topic and Key.
func Apply(values map[string]map[string]string, envelope []byte) error {
	var e struct {
		Topic                       *string
		Topics                      []string
		Key, Data, Encoding         string
		Removed                     bool
		Ready, Begin, Gap, Position string
		End                         any
	}
	if err := json.Unmarshal(envelope, &e); err != nil {
		return fmt.Errorf("no envelope: %w", err)
	}
	switch {
	case e.Topic == nil && e.Begin != "" && e.Topics == nil:
		clear(values)
	case e.Topic == nil && e.Begin != "":
		for _, topic := range e.Topics {
			delete(values, topic)
		}
	case e.Topic == nil:
		if e.Ready+e.Gap+e.Position == "" && e.End == nil {
			return errors.New("no envelope: it has neither a topic nor a position")
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
				return fmt.Errorf("no envelope: %w", err)
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
