package main

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/broadcast/broadcasttest"
	"github.com/fanfare-go/fanfare/internal/leak"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

func TestMain(m *testing.M) { leak.Main(m) }

const question = "What is a fanfare?"

// whole is the answer to question.
func whole() string {
	text := ""
	for token := range (local{}).Tokens(context.Background(), question, "") {
		text += token
	}
	return text
}

// site returns the routes on a hub, and a function that ends the process.
func site(t *testing.T, hub *broadcast.Hub, source Source) (routed http.Handler, exit func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	a, err := newAnswers(ctx, hub, source)
	require.NoError(t, err)
	exit = func() {
		cancel()
		a.writing.Wait()
	}
	t.Cleanup(exit)
	return routes(a), exit
}

func post(h http.Handler, path string, form url.Values) *httptest.ResponseRecorder {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel() // the request ends here, and the answer does not
	r := httptest.NewRequestWithContext(ctx, "POST", path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// ask returns the path of an answer.
func ask(t *testing.T, h http.Handler) string {
	t.Helper()
	w := post(h, "/answers", url.Values{"question": {question}})
	require.Equal(t, http.StatusCreated, w.Code, w.Body)
	return w.Header().Get("Location")
}

func get(path string) *http.Request { return httptest.NewRequest("GET", path, nil) }

// shown is what a page shows.
type shown struct{ question, text, end string }

func (p *shown) apply(t *testing.T, typ, data string) {
	t.Helper()
	switch typ {
	case "begin":
		*p = shown{}
	case "question":
		p.question = data
	case "piece":
		p.text += data
	case "text", "done", "stopped", "failed":
		require.True(t, strings.HasPrefix(data, p.text), "%q does not go on from %q", data, p.text)
		if p.text = data; typ != "text" {
			p.end = typ
		}
	default:
		t.Fatalf("%s: %s", typ, data)
	}
}

// follow shows a stream until its end.
func (p *shown) follow(t *testing.T, s *ssetest.Stream) {
	t.Helper()
	for e := range s.All() {
		p.apply(t, e.Type, string(e.Data))
	}
	require.NoError(t, s.End())
}

// followSocket shows a WebSocket until its end.
func (p *shown) followSocket(t *testing.T, c *ws.Conn) {
	t.Helper()
	for {
		var m struct{ Begin, Gap, Topic, Type, Data string }
		err := c.ReadJSON(t.Context(), &m)
		if err != nil {
			require.Equal(t, ws.StatusNormalClosure, ws.CloseStatus(err), "%v", err)
			return
		}
		require.Empty(t, m.Gap)
		if m.Begin != "" {
			p.apply(t, "begin", "")
		}
		if m.Topic != "" {
			p.apply(t, m.Type, m.Data)
		}
	}
}

func TestAReloadASecondTabAnotherTransportAndACutShowTheWholeText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers, _ := site(t, newHub(), local{pause: 70 * time.Millisecond})
		path := ask(t, answers)
		want := shown{question, whole(), "done"}
		read := func(p *shown, s *ssetest.Stream, d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); {
				e := s.Next()
				p.apply(t, e.Type, string(e.Data))
			}
		}

		var page, reloaded, tab, cut shown
		first := ssetest.Connect(t, answers, get(path+"/events"))
		read(&page, first, 6*time.Second)
		require.NotEmpty(t, page.text)
		first.Close()
		second := ssetest.Connect(t, answers, get(path+"/events"))
		socket := wstest.Dial(t, answers, get(path+"/ws"))
		cut = page
		third := ssetest.Connect(t, answers, get(path+"/events?lastEventId="+first.LastEventID()))
		read(&cut, third, 2*time.Second)
		third.Close()
		time.Sleep(2 * time.Second) // words are missed
		last := wstest.Dial(t, answers, get(path+"/ws?lastEventId="+third.LastEventID()))

		reloaded.follow(t, second)
		tab.followSocket(t, socket)
		cut.followSocket(t, last)
		require.Equal(t, []shown{want, want, want}, []shown{reloaded, tab, cut})

		second.Reconnect()
		require.Equal(t, http.StatusNoContent, second.Status(), "there is nothing to come back for")
		var late shown
		late.follow(t, ssetest.Connect(t, answers, get(path+"/events")))
		require.Equal(t, want, late, "to a page that is opened after the end")
	})
}

func TestStopEndsAnAnswerForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers, _ := site(t, newHub(), local{pause: 70 * time.Millisecond})
		path := ask(t, answers)
		s, c := ssetest.Connect(t, answers, get(path+"/events")), wstest.Dial(t, answers, get(path+"/ws"))
		time.Sleep(3 * time.Second)
		require.Equal(t, http.StatusNoContent, post(answers, path+"/stop", nil).Code)
		var one, other shown
		one.follow(t, s)
		other.followSocket(t, c)
		require.Equal(t, one, other)
		require.Equal(t, "stopped", one.end)
		require.True(t, strings.HasPrefix(whole(), one.text))
		require.Less(t, len(one.text), len(whole()))
		require.Equal(t, http.StatusNotFound, post(answers, path+"/stop", nil).Code, "it has ended")
	})
}

// A process that starts on the log of another one finishes what that has begun.
func TestAnAnswerSurvivesItsProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var journal broadcasttest.Journal
		start := func() (*broadcast.Hub, http.Handler, func()) {
			hub := newHub()
			hub.Journal = journal.Node()
			go func() { _ = hub.Run(t.Context()) }()
			t.Cleanup(func() { hub.Close() })
			answers, exit := site(t, hub, local{pause: 70 * time.Millisecond})
			return hub, answers, exit
		}
		hub, answers, exit := start()
		path := ask(t, answers)
		s := ssetest.Connect(t, answers, get(path+"/events"))
		time.Sleep(5 * time.Second)
		exit()
		hub.Close() // ends the stream
		var page shown
		page.follow(t, s)
		require.Empty(t, page.end)
		require.NotEmpty(t, page.text)

		_, answers, _ = start()
		page.follow(t, ssetest.Connect(t, answers, get(path+"/events?lastEventId="+s.LastEventID())))
		require.Equal(t, shown{question, whole(), "done"}, page)
		_, again, _ := start()
		var late shown
		late.follow(t, ssetest.Connect(t, again, get(path+"/events")))
		require.Equal(t, page, late, "from a third process")
	})
}

// source yields a text byte by byte, and then an error if it has one.
type source struct {
	text string
	err  error
}

func (s source) Tokens(context.Context, string, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for i := range len(s.text) {
			if !yield(s.text[i:i+1], nil) {
				return
			}
		}
		if s.err != nil {
			yield("", s.err)
		}
	}
}

func TestTokensMayEndWithinARuneAndASourceMayFail(t *testing.T) {
	for _, test := range []struct {
		source source
		want   shown
	}{
		{source{text: "Für 5 € 😀"}, shown{question, "Für 5 € 😀", "done"}},
		{source{"So far", errors.New("no credit")}, shown{question, "So far", "failed"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			answers, _ := site(t, newHub(), test.source)
			var page shown
			page.follow(t, ssetest.Connect(t, answers, get(ask(t, answers)+"/events")))
			require.Equal(t, test.want, page)
		})
	}
}

func TestWhatIsUnknownIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers, _ := site(t, newHub(), local{})
		require.Equal(t, http.StatusBadRequest, post(answers, "/answers", url.Values{"question": {"And?"}}).Code)
		require.Equal(t, http.StatusNotFound, post(answers, "/answers/x/stop", nil).Code)
		require.Equal(t, http.StatusNotFound, ssetest.Connect(t, answers, get("/answers/x/events")).Status())
	})
}

// The page offers the questions that have an answer.
func TestThePageAsksWhatIsKnown(t *testing.T) {
	_, after, _ := strings.Cut(string(page), "const QUESTIONS = ")
	list, _, _ := strings.Cut(after, ";")
	var questions []string
	require.NoError(t, json.Unmarshal([]byte(strings.ReplaceAll(list, "'", `"`)), &questions))
	require.Len(t, questions, strings.Count("\n"+prepared, "\n# "))
	for _, q := range questions {
		require.True(t, known(q), q)
	}
}
