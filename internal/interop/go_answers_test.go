package interop_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"github.com/stretchr/testify/require"
)

// goClient returns what a Go client of answers sends its requests with, and a context for them.
func goClient(t *testing.T) (context.Context, *http.Client) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	return ctx, &http.Client{Transport: transport}
}

// OpenAI's Go client comes back to an answer after a cut in the middle, with the number of the last
// event, and after the end. It has each piece once.
func TestOpenAIGoReturnsToAnAnswer(t *testing.T) {
	a, url := serveAnswers(t)
	ctx, transport := goClient(t)
	client := openai.NewClient(openaioption.WithBaseURL(url+"/openai"), openaioption.WithAPIKey("key"), openaioption.WithHTTPClient(transport), openaioption.WithMaxRetries(0))
	var text string
	var events []int64 // their numbers
	read := func(e responses.ResponseStreamEventUnion) {
		events = append(events, e.SequenceNumber)
		if e.Type == "response.output_text.delta" {
			text += e.Delta
		}
	}
	stream := client.Responses.NewStreaming(ctx, responses.ResponseNewParams{
		Model: "m", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hello")}, Background: openai.Bool(true),
	})
	require.NoError(t, stream.Err())
	a.publish(ctx, "resp_1", 4)
	for range 4 {
		require.True(t, stream.Next(), stream.Err())
		read(stream.Current())
	}
	require.Equal(t, strings.Join(words[:3], ""), text)
	a.cut(nil, nil)
	require.Error(t, eachEvent(stream, read))

	a.publish(ctx, "resp_1", 1) // while it is away
	stream = client.Responses.GetStreaming(ctx, "resp_1", responses.ResponseGetParams{StartingAfter: openai.Int(events[len(events)-1])})
	a.publish(ctx, "resp_1", 100)
	require.NoError(t, eachEvent(stream, read))
	require.Equal(t, strings.Join(words, ""), text)
	require.Equal(t, []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, events)

	text, events = "", nil
	require.NoError(t, eachEvent(client.Responses.GetStreaming(ctx, "resp_1", responses.ResponseGetParams{}), read))
	require.Equal(t, strings.Join(words, ""), text)
	require.Equal(t, []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, events)
}

// Anthropic's Go client, which cannot resume, asks again after a cut in the middle and after the
// end, and has the whole message.
func TestAnthropicGoReturnsToAnAnswer(t *testing.T) {
	a, url := serveAnswers(t)
	ctx, transport := goClient(t)
	client := anthropic.NewClient(anthropicoption.WithBaseURL(url+"/anthropic"), anthropicoption.WithAPIKey("key"), anthropicoption.WithHTTPClient(transport), anthropicoption.WithMaxRetries(0))
	var message anthropic.Message
	var last string
	ask := func() eventStream[anthropic.MessageStreamEventUnion] {
		message, last = anthropic.Message{}, ""
		return client.Messages.NewStreaming(ctx, anthropic.MessageNewParams{
			Model: "m", MaxTokens: 100, Metadata: anthropic.MetadataParam{UserID: anthropic.String("ann")},
			Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("hello"))},
		})
	}
	read := func(e anthropic.MessageStreamEventUnion) {
		require.NoError(t, message.Accumulate(e))
		last = e.Type
	}
	stream := ask()
	require.NoError(t, stream.Err())
	a.publish(ctx, "anthropic/ann", 5)
	for range 5 {
		require.True(t, stream.Next(), stream.Err())
		read(stream.Current())
	}
	require.Equal(t, strings.Join(words[:3], ""), message.Content[0].Text)
	a.cut(nil, nil)
	require.Error(t, eachEvent(stream, read))

	a.publish(ctx, "anthropic/ann", 1) // while it is away
	stream = ask()
	a.publish(ctx, "anthropic/ann", 100)
	for _, stream := range []eventStream[anthropic.MessageStreamEventUnion]{stream, ask()} {
		message, last = anthropic.Message{}, ""
		require.NoError(t, eachEvent(stream, read))
		require.Len(t, message.Content, 1)
		require.Equal(t, strings.Join(words, ""), message.Content[0].Text)
		require.Equal(t, "message_stop", last)
	}
}
