package ws_test

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/conformance"
	"github.com/fanfare-go/fanfare/ws"
)

// answering answers a handshake with what answer returns for the Sec-WebSocket-Accept of
// the client's key, and then waits until the client has left.
func answering(answer func(key string) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, answer(accept(r.Header.Get("Sec-WebSocket-Key"))))
		_, _ = conn.Read(make([]byte, 1))
	})
}

// handshakes has servers that answer a client's handshake in many ways (RFC 6455
// section 4.1).
func handshakes(t *testing.T, table *conformance.Table) {
	for _, test := range []struct {
		name, status, headers, accept string
		good                          bool
	}{
		{"as it should be", "101 Switching Protocols", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "", true},
		{"in another case, with more tokens", "101 Fine", "connection: keep-alive, upgrade\r\nupgrade: WebSocket\r\n", "", true},
		{"a subprotocol that was offered", "101 Fine", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: v2\r\n", "", true},
		{"a subprotocol that was not offered", "101 Fine", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: v3\r\n", "", false},
		{"an extension that was not offered", "101 Fine", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n", "", false},
		{"no Upgrade", "101 Fine", "Connection: Upgrade\r\n", "", false},
		{"another Upgrade", "101 Fine", "Connection: Upgrade\r\nUpgrade: h2c\r\n", "", false},
		{"no Connection", "101 Fine", "Upgrade: websocket\r\n", "", false},
		{"another Connection", "101 Fine", "Connection: close\r\nUpgrade: websocket\r\n", "", false},
		{"200", "200 OK", "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n", "", false},
		{"400", "400 Bad Request", "Content-Length: 0\r\n", "", false},
		{"503", "503 Later", "Retry-After: 5\r\nContent-Length: 0\r\n", "", false},
		{"somebody else's key", "101 Fine", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", false},
		{"no answer to the key", "101 Fine", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "-", false},
	} {
		table.Run(t, "4.1 the client's handshake", "ws.Dial", test.name, func(t *testing.T) {
			serve(t, nil, func(t *testing.T, n *network) {
				n.server.Handler = answering(func(key string) string {
					accept := "Sec-WebSocket-Accept: " + cmp.Or(test.accept, key) + "\r\n"
					if test.accept == "-" {
						accept = ""
					}
					return "HTTP/1.1 " + test.status + "\r\n" + test.headers + accept + "\r\n"
				})
				c, err := ws.Dial(t.Context(), "ws://memory/", &ws.DialOptions{HTTPClient: n.client, Options: ws.Options{Subprotocols: []string{"v1", "v2"}}})
				if !test.good {
					require.Error(t, err)
					return
				}
				require.NoError(t, err)
				require.NoError(t, c.CloseNow())
			})
		})
	}
}

// offers has clients that offer permessage-deflate.
func offers(t *testing.T, table *conformance.Table) {
	for _, test := range []struct{ name, offer, agreed string }{
		{"an offer", "permessage-deflate", "both"},
		{"in another case", "Permessage-Deflate", ""},
		{"with a window that the client may make smaller", "permessage-deflate; client_max_window_bits", "both"},
		{"with a window that the client makes smaller", "permessage-deflate; client_max_window_bits=9", "both"},
		{"with all of the server's window, which the answer repeats", "permessage-deflate; server_max_window_bits=15", "window"},
		{"with all of it in quotes, and another parameter", `permessage-deflate; client_max_window_bits; server_max_window_bits="15"`, "window"},
		{"without it, preferred to one with it", "permessage-deflate, permessage-deflate; server_max_window_bits=15", "both"},
		{"with all of it, after one that cannot be had", "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=15", "window"},
		{"with the server's window twice", "permessage-deflate; server_max_window_bits=15; server_max_window_bits=15", ""},
		{"with the server's window and no value", "permessage-deflate; server_max_window_bits", ""},
		{"with more than all of it", "permessage-deflate; server_max_window_bits=16", ""},
		{"with less of the server's window, which cannot be had", "permessage-deflate; server_max_window_bits=9", ""},
		{"a second offer, where the first cannot be had", "permessage-deflate; server_max_window_bits=9, permessage-deflate", "both"},
		{"a window that there is not", "permessage-deflate; client_max_window_bits=16", ""},
		{"a window that is no number", "permessage-deflate; client_max_window_bits=x", ""},
		{"a window with a leading zero", "permessage-deflate; client_max_window_bits=09", ""},
		{"a parameter twice", "permessage-deflate; client_max_window_bits; client_max_window_bits", ""},
		{"a parameter with a value that has none", "permessage-deflate; server_no_context_takeover=1", ""},
		{"a parameter that there is not", "permessage-deflate; level=9", ""},
		{"a quoted value", `permessage-deflate; client_max_window_bits="10"`, "both"},
		{"another extension before it", "x-webkit-deflate-frame, permessage-deflate", "both"},
		{"no context takeover", "permessage-deflate; client_no_context_takeover; server_no_context_takeover", "both"},
		{"nothing", "", ""},
	} {
		table.Run(t, "RFC 7692 7.1 the offer", "ws.Upgrade", test.name, func(t *testing.T) {
			serve(t, upgraded(&ws.Options{Compression: true}, func(c *ws.Conn) { c.CloseRead(); <-c.Context().Done() }), func(t *testing.T, n *network) {
				p, agreed := n.offer("/", test.offer)
				switch test.agreed {
				case "both":
					test.agreed = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
				case "window": // RFC 7692 section 7.1.2.1
					test.agreed = "permessage-deflate; client_no_context_takeover; server_no_context_takeover; server_max_window_bits=15"
				}
				require.Equal(t, test.agreed, agreed)
				p.Close()
			})
		})
	}
}

// answers has servers that answer such an offer.
func answers(t *testing.T, table *conformance.Table) {
	for _, test := range []struct {
		name, answer string
		good         bool
	}{
		{"agreed", "permessage-deflate; server_no_context_takeover; client_no_context_takeover", true},
		{"a smaller window of the server's", "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9", true},
		{"a smaller window for the client, which did not offer it", "permessage-deflate; client_max_window_bits=9", false},
		{"a context that is taken over, though that was not offered", "permessage-deflate; client_no_context_takeover", false},
		{"a parameter that there is not", "permessage-deflate; server_no_context_takeover; client_no_context_takeover; level=9", false},
		{"another extension", "x-webkit-deflate-frame", false},
		{"twice", "permessage-deflate, permessage-deflate", false},
	} {
		table.Run(t, "RFC 7692 7.1 the answer", "ws.Dial", test.name, func(t *testing.T) {
			serve(t, nil, func(t *testing.T, n *network) {
				n.server.Handler = answering(func(key string) string {
					return fmt.Sprintf("HTTP/1.1 101 Fine\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Extensions: %s\r\n\r\n", key, test.answer)
				})
				c, err := ws.Dial(t.Context(), "ws://memory/", &ws.DialOptions{HTTPClient: n.client, Options: ws.Options{Compression: true}})
				if !test.good {
					require.Error(t, err)
					return
				}
				require.NoError(t, err)
				require.NoError(t, c.CloseNow())
			})
		})
	}
}
