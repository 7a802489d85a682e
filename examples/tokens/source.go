package main

import (
	"context"
	"hash/fnv"
	"iter"
	"math/rand/v2"
	"strings"
	"time"
)

// Source answers questions. Usually it is a language model.
type Source interface {
	// Tokens returns the tokens of the answer, including the spaces between words. When ctx
	// ends, the sequence yields its cause as the last error.
	Tokens(ctx context.Context, question string) iter.Seq2[string, error]
}

// local is a Source without a model. It makes random sentences from those of corpus, as a
// Markov chain.
type local struct{ pause time.Duration } // between two tokens

const corpus = `A fanfare is a short piece of music for brass, and it announces that something arrives .
A stream is a response that does not end, and it carries each message as soon as it arrives .
A message that arrives is written once, and it is sent to all clients that are connected .
A client that is connected may leave in the middle of a sentence, and come back to the end of it .
A client that leaves in the middle of a stream gets what it missed, and then what is new .
The server keeps each message for a while, so that a client that comes back gets all of them .
The trumpet plays first, so that all listeners know that something is announced .
A word that is sent on its own arrives on its own, and the reader need not wait for the sentence .
The reader need not wait for the end of an answer, and may stop it in the middle .
An answer that is stopped in the middle costs nothing more, since the source stops as well .`

// Tokens walks from word to word: each word is followed by one that follows it in corpus. The
// same question has the same answer.
func (l local) Tokens(ctx context.Context, question string) iter.Seq2[string, error] {
	follows := make(map[string][]string)
	var first []string
	for line := range strings.Lines(corpus) {
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
