package inspect_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/inspect"
	"github.com/fanfare-go/fanfare/sse"
)

func ExampleHandler() {
	var hub broadcast.Hub
	defer hub.Close()
	events := &sse.Handler{Broadcaster: &hub, Topics: []string{"news"}}

	onlyAdmins := func(next http.Handler) http.Handler { // yours
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, password, _ := r.BasicAuth(); password != "secret" {
				w.Header().Set("WWW-Authenticate", "Basic") // a browser asks for the password
				http.Error(w, "admins only", http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	mux := http.NewServeMux()
	mux.Handle("GET /events", events)
	mux.Handle("GET /debug/fanfare", onlyAdmins(&inspect.Handler{
		Hubs:     map[string]*broadcast.Hub{"main": &hub},
		Handlers: map[string]inspect.Streamer{"events": events},
	}))

	for _, password := range []string{"", "secret"} {
		r := httptest.NewRequest("GET", "/debug/fanfare", nil)
		r.SetBasicAuth("ann", password)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	// Output:
	// 401
	// 200
}
