package sse

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/fanfare-go/fanfare/internal/delivery"
	"github.com/fanfare-go/fanfare/internal/streamctx"
	"github.com/fanfare-go/fanfare/internal/tcp"
)

type connKey struct{}

// ConnContext is for the field ConnContext of http.Server. It lets streams find out
// sooner that a client has vanished, such as a phone that lost its network. On Linux the
// connection then ends once what was sent has been waiting for Heartbeat + WriteTimeout
// for an acknowledgement. Without ConnContext, and on other systems, the kernel decides:
// Linux keeps trying for about a quarter of an hour. Detached streams do not need it.
//
// If the server's listener wraps its connections, as for TLS, the PROXY protocol or a
// limit, the TCP connection is reached through the methods NetConn, Raw and TCPConn of a
// wrapper, or a net.Conn that is embedded in it. Where it cannot be reached, a Handler
// logs a warning, once.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(streamctx.WithServer(ctx), connKey{}, c)
}

func connOf(ctx context.Context) net.Conn {
	c, _ := ctx.Value(connKey{}).(net.Conn)
	return c
}

// boundUnacknowledged bounds what the kernel keeps unsent for a client, and how long
// it waits for an acknowledgement.
func boundUnacknowledged(conn net.Conn, o Options) {
	tcp.SetUnsent(conn, delivery.MaxUnsent)
	if o.Heartbeat > 0 && o.WriteTimeout > 0 {
		tcp.SetUserTimeout(conn, o.Heartbeat+o.WriteTimeout)
	}
}

// warnIfHidden logs once that the handler's streams cannot reach their TCP connections.
// conn is nil without ConnContext.
func (h *Handler) warnIfHidden(r *http.Request, conn net.Conn) {
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if conn == nil || addr == nil || !strings.HasPrefix(addr.Network(), "tcp") {
		return // there is none, as with a Unix socket
	}
	if wrapper, hidden := tcp.Hidden(conn); hidden && !h.warnedOfHidden.Swap(true) { // no Once: the Logger may use the handler
		cmp.Or(h.Logger, slog.Default()).Warn("sse: the TCP connection cannot be reached: a client that vanishes is noticed only when the kernel gives up, "+
			"after a quarter of an hour; give the listener's wrapper a method NetConn() net.Conn", "wrapper", fmt.Sprintf("%T", wrapper))
	}
}
