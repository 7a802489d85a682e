package main

import (
	"context"
	"hash/fnv"
	"iter"
	"math/rand/v2"
	"strings"
	"time"
)

// Source is where answers come from: a language model, most often. The sequence ends with
// ctx, whose error it then yields last.
type Source interface {
	// Tokens are those of the answer to a question, with the spaces between them.
	Tokens(ctx context.Context, question string) iter.Seq2[string, error]
}

// local is a Source that needs nothing and knows nothing: it turns what it was fed into
// sentences that it has never read.
type local struct{ pause time.Duration } // between two tokens

const fed = `A fanfare is a short piece of music for brass, and it announces that something arrives .
A stream is an answer that does not end, and it brings what arrives as soon as it arrives .
A message that arrives is written once, and it is heard by all who listen .
Whoever listens may leave in the middle of a sentence, and come back to the end of it .
Whoever leaves in the middle of a stream hears what was missed, and then what is new .
The server keeps what was said for a while, so that a listener who comes back hears all of it .
The trumpet plays first, so that all who listen know that something is announced .
A word that is sent on its own arrives on its own, and the reader need not wait for the sentence .
The reader need not wait for the end of an answer, and may stop it in the middle .
What is stopped in the middle costs nothing more, since the source hears of it as well .`

// Tokens walks from word to word, along those that followed each other in what it was fed.
// The same question has the same answer.
func (l local) Tokens(ctx context.Context, question string) iter.Seq2[string, error] {
	follows := make(map[string][]string)
	var first []string
	for line := range strings.Lines(fed) {
		words := strings.Fields(line)
		first = append(first, words[0])
		for i := 1; i < len(words); i++ {
			follows[words[i-1]] = append(follows[words[i-1]], words[i])
		}
	}
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(question))
	draw := rand.New(rand.NewPCG(seed.Sum64(), 0))
	return func(yield func(string, error) bool) {
		for sentences := 3 + draw.IntN(3); sentences > 0; sentences-- {
			word, space := first[draw.IntN(len(first))], ""
			for n := 0; word != "."; n++ {
				select {
				case <-time.After(l.pause/2 + rand.N(l.pause+1)):
				case <-ctx.Done():
					yield("", context.Cause(ctx))
					return
				}
				if !yield(space+word, nil) {
					return
				}
				next := follows[word]
				if word, space = next[draw.IntN(len(next))], " "; n > 40 {
					break
				}
			}
			if !yield(". ", nil) {
				return
			}
		}
	}
}
