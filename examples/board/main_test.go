package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/faults"
	"github.com/fanfare-go/fanfare/internal/leak"
	"github.com/fanfare-go/fanfare/sse"
	"github.com/fanfare-go/fanfare/sse/ssetest"
	"github.com/fanfare-go/fanfare/ws"
	"github.com/fanfare-go/fanfare/ws/wstest"
)

func TestMain(m *testing.M) { leak.Main(m) }

func get(path, page string) *http.Request {
	return httptest.NewRequest("GET", path+"?page="+page+"&name="+page, nil)
}

func post(b http.Handler, page, act string) int {
	w := httptest.NewRecorder()
	b.ServeHTTP(w, httptest.NewRequest("POST", "/act?page="+page, strings.NewReader(act)))
	return w.Code
}

// connected returns the pages that have a connection, once for each.
func connected(t *testing.T, b http.Handler) []string {
	t.Helper()
	w := httptest.NewRecorder()
	b.ServeHTTP(w, httptest.NewRequest("GET", "/connections", nil))
	var seats []connection
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &seats))
	pages := []string{}
	for _, s := range seats {
		page, _, _ := strings.Cut(s.Key, "/")
		pages = append(pages, page)
	}
	slices.Sort(pages)
	return pages
}

// view is what a page shows.
type view struct {
	people map[string]person // by Key
	marks  int               // without those of markers
	got    int               // marks that have come since the beginning
	marker string            // the newest
}

func (v *view) apply(t *testing.T, e sse.Event) {
	t.Helper()
	var m struct {
		Begin, Type, Key, Data string
		Removed                bool
	}
	require.NoError(t, json.Unmarshal(e.Data, &m))
	var p person
	if m.Data != "" {
		require.NoError(t, json.Unmarshal([]byte(m.Data), &p))
	}
	switch {
	case m.Begin != "":
		*v = view{people: map[string]person{}}
	case m.Removed:
		delete(v.people, m.Key)
	case m.Key != "":
		v.people[m.Key] = p
	case m.Type == "clear":
		v.marks = 0
	case m.Type == "mark" && strings.HasPrefix(p.Name, "marker"):
		v.marker = p.Name
	case m.Type == "mark":
		v.marks++
		v.got++
	}
}

// here returns the pages of those that are here, once for each connection.
func (v *view) here() []string {
	pages := []string{}
	for key := range maps.Keys(v.people) {
		if page, _, _ := strings.Cut(key, "/"); !strings.HasPrefix(page, "marker") {
			pages = append(pages, page)
		}
	}
	slices.Sort(pages)
	return pages
}

// at returns where a page is that has one connection.
func (v *view) at(page string) string {
	for key, p := range v.people {
		if strings.HasPrefix(key, page+"/") && p.X != nil {
			return fmt.Sprintf("%s at %v %v", p.Name, *p.X, *p.Y)
		}
	}
	return "nowhere"
}

// enter returns the stream of a page, and a function that returns what the page shows once all
// that has happened has arrived: a marker comes last.
func enter(t *testing.T, b http.Handler, page string) (*ssetest.Stream, func() *view) {
	t.Helper()
	s := ssetest.Connect(t, b, httptest.NewRequest("GET", "/events?envelope=1&page="+page+"&name="+page, nil))
	require.Equal(t, http.StatusOK, s.Status())
	var v view
	markers := 0
	return s, func() *view {
		t.Helper()
		markers++
		name := fmt.Sprintf("marker-%s-%d", page, markers)
		marker := ssetest.Connect(t, b, get("/events", name))
		require.Equal(t, http.StatusNoContent, post(b, name, `{"do":"mark","x":1}`))
		for v.marker != name {
			v.apply(t, s.Next())
		}
		marker.Close()
		synctest.Wait() // until the server has noticed
		return &v
	}
}

func TestABoardShowsWhoIsHereAndNoGhosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		_, ann := enter(t, b, "ann")
		require.Empty(t, ann().here(), "one's own cursor is not sent")

		// Bob moves, over a link that can fail.
		var link faults.Link
		bob := wstest.Dial(t, b, faults.Via(get("/ws", "bob"), &link))
		require.NoError(t, bob.Write(t.Context(), ws.Text, []byte(`{"do":"move","x":0.25,"y":0.5}`)))
		synctest.Wait()
		require.Equal(t, []string{"bob"}, ann().here())
		require.Equal(t, "bob at 0.25 0.5", ann().at("bob"))

		// A reload: the new page is here, and the old one is not.
		require.NoError(t, bob.CloseNow())
		wstest.Dial(t, b, faults.Via(get("/ws", "bob2"), &link))
		synctest.Wait()
		require.Equal(t, []string{"bob2"}, ann().here())

		// His page is killed, and its connection with it.
		link.Cut()
		synctest.Wait()
		require.Empty(t, ann().here())

		// His phone loses its network, and the server finds out.
		wstest.Dial(t, b, faults.Via(get("/ws", "bob"), &link))
		synctest.Wait()
		require.Equal(t, []string{"bob"}, ann().here())
		link.Vanish()
		time.Sleep(10*time.Second + time.Millisecond)
		require.Empty(t, ann().here())
		require.Equal(t, []string{"ann"}, connected(t, b))
	})
}

// A page that comes back before the server has noticed that it was away is here all the time,
// and does not see itself.
func TestAPageThatComesBackKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		_, ann := enter(t, b, "ann")
		var link faults.Link
		wstest.Dial(t, b, faults.Via(get("/ws", "bob"), &link))
		require.Equal(t, http.StatusNoContent, post(b, "bob", `{"do":"move","x":0.25}`))
		link.Vanish()
		_, bob := enter(t, b, "bob")
		require.Equal(t, []string{"bob", "bob"}, ann().here(), "a page groups them")
		require.Equal(t, []string{"ann"}, bob().here())
		time.Sleep(10*time.Second + time.Millisecond)
		require.Equal(t, []string{"bob"}, ann().here())
		require.Equal(t, "bob at 0.25 0", ann().at("bob"), "where it was")
		require.Equal(t, http.StatusNoContent, post(b, "bob", `{"do":"move","x":0.75}`))
		require.Equal(t, "bob at 0.75 0", ann().at("bob"))
	})
}

// Two pages never have the same name: the second gets a number, which it can see in /connections. A page keeps its name when it comes back, and a name is free once its pages
// have left.
func TestNoTwoPagesHaveTheSameName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		come := func(page, name string) *ssetest.Stream {
			s := ssetest.Connect(t, b, httptest.NewRequest("GET", "/events?page="+page+"&name="+url.QueryEscape(name), nil))
			require.Equal(t, http.StatusOK, s.Status())
			return s
		}
		names := func() string {
			w := httptest.NewRecorder()
			b.ServeHTTP(w, httptest.NewRequest("GET", "/connections", nil))
			var seats []connection
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &seats))
			all := []string{}
			for _, s := range seats {
				page, _, _ := strings.Cut(s.Key, "/")
				all = append(all, page+": "+s.Name)
			}
			slices.Sort(all)
			return strings.Join(slices.Compact(all), ", ")
		}
		one := come("1", "Otter")
		come("2", "Otter")
		come("3", "Otter")
		come("4", "otter 2") // in other letters
		require.Equal(t, "1: Otter, 2: Otter 2, 3: Otter 3, 4: otter 2 2", names())
		come("2", "Otter") // it comes back before its connection is found to be dead
		require.Equal(t, "1: Otter, 2: Otter 2, 3: Otter 3, 4: otter 2 2", names())
		one.Close()
		synctest.Wait()
		long := strings.Repeat("ä", 40)
		come("5", "Otter")
		come("6", long)
		come("7", long)
		require.Equal(t, "2: Otter 2, 3: Otter 3, 4: otter 2 2, 5: Otter, 6: "+long+", 7: "+long+" 2", names())
		come("2", "Heron")
		require.Contains(t, names(), "2: Heron", "a page may change its name")
	})
}

// Marks are events: a page that was away gets each of them, and one that is new gets those since
// the board was cleared.
func TestMarksAreKeptUntilTheBoardIsCleared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		s, ann := enter(t, b, "ann")
		bob := wstest.Dial(t, b, get("/ws", "bob"))
		mark := func(n int) {
			for i := range n {
				require.NoError(t, bob.Write(t.Context(), ws.Text, fmt.Appendf(nil, `{"do":"mark","x":%f,"y":0.5}`, float64(i)/100)))
			}
			synctest.Wait()
		}
		mark(3)
		require.Equal(t, 3, ann().marks)
		s.Close()
		synctest.Wait()
		mark(4)
		s.Reconnect()
		require.Equal(t, 7, ann().marks)
		require.Equal(t, http.StatusNoContent, post(b, "ann", `{"do":"clear"}`))
		mark(2)
		_, cem := enter(t, b, "cem")
		require.Equal(t, []int{2, 2}, []int{ann().marks, cem().marks})
		require.Equal(t, []int{9, 2}, []int{ann().got, cem().got}, "what was cleared does not come again")
	})
}

// No move of a page is published after its removal, whatever the order in which connections
// move and end.
func TestNothingIsLeftOfThoseWhoLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		_, ann := enter(t, b, "ann")
		var pages sync.WaitGroup
		for i := range 8 {
			pages.Go(func() {
				for range 20 {
					c := wstest.Dial(t, b, get("/ws", fmt.Sprint("p", i%4)))
					for range 5 {
						_ = c.Write(t.Context(), ws.Text, []byte(`{"do":"move","x":0.5,"y":0.5}`))
					}
					_ = c.CloseNow()
				}
			})
		}
		pages.Wait()
		synctest.Wait()
		require.Empty(t, ann().here())
		require.Equal(t, []string{"ann"}, connected(t, b))
	})
}

func TestInvalidRequestsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		for _, query := range []string{"", "?page=a", "?name=a", "?page=a/b&name=a", "?page=a&name=" + strings.Repeat("x", 41)} {
			require.Equal(t, http.StatusBadRequest, ssetest.Connect(t, b, httptest.NewRequest("GET", "/events"+query, nil)).Status(), query)
		}
		enter(t, b, "ann")
		for _, act := range []string{"", "{}", `{"do":"fly"}`, `{"do":"move","x":2}`, `{"do":"move","y":-1}`, strings.Repeat(" ", 2000)} {
			require.Equal(t, http.StatusBadRequest, post(b, "ann", act), act)
		}
		c := wstest.Dial(t, b, get("/ws", "bob"))
		require.NoError(t, c.Write(t.Context(), ws.Text, []byte(`{"do":"fly"}`)))
		for {
			if _, _, err := c.Read(t.Context()); err != nil {
				require.Equal(t, ws.StatusPolicyViolation, ws.CloseStatus(err), "%v", err)
				break
			}
		}
	})
}

// An event stream that nothing happens on has a heartbeat every 15 seconds.
func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		s := ssetest.Connect(t, b, get("/events", "ann"))
		require.Equal(t, "begin", s.Next().Type)
		s.Quiet(14 * time.Second)
		require.Zero(t, s.Heartbeats())
		s.Quiet(time.Second + time.Millisecond)
		require.Equal(t, 1, s.Heartbeats())
	})
}

// No middleware of the board breaks either transport.
func TestMiddleware(t *testing.T) {
	require.NoError(t, ssetest.Diagnose(newBoard(), get("/events", "ann")))
	require.NoError(t, wstest.Diagnose(newBoard(), get("/ws", "ann")))
}
