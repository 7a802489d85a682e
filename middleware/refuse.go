package middleware

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/origin"
	"github.com/fanfare-go/fanfare/internal/ratelog"
	"github.com/fanfare-go/fanfare/internal/streamctx"
)

// refuse refuses a stream, and logs that, with the path and without the query, which may
// contain a token. The log has at most two lines per second of those with the same
// status.
func refuse(w http.ResponseWriter, r *http.Request, log *ratelog.Log, logger *slog.Logger, refusal *fanfare.Refusal) {
	kind := ratelog.Kind{Level: slog.LevelInfo, Message: "middleware: refused a stream", Status: refusal.Status}
	log.Write(r.Context(), logger, kind, "path", r.URL.Path, "status", refusal.Status, "reason", refusal.Err)
	fanfare.Refuse(w, r, refusal)
}

// refuseForGood is refuse for a client that must not come back. A WebSocket that has asked
// for it with refusals=close gets a close frame, as from ws.Handler: a browser does not show a
// script the status of a handshake.
func refuseForGood(w http.ResponseWriter, r *http.Request, log *ratelog.Log, logger *slog.Logger, refusal *fanfare.Refusal) {
	code, reason := closeFor(refusal.Status)
	if code == 0 || r.URL.Query().Get("refusals") != "close" || !isHandshake(r) || !streamctx.OriginPassed(r.Context()) && origin.Check(r) != nil {
		refuse(w, r, log, logger, refusal)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(w, r, log, logger, refusal)
		return
	}
	kind := ratelog.Kind{Level: slog.LevelInfo, Message: "middleware: refused a stream", Status: refusal.Status}
	log.Write(r.Context(), logger, kind, "path", r.URL.Path, "status", refusal.Status, "reason", refusal.Err)
	closeWebSocket(conn, buffered, r, code, reason)
}

func closeFor(status int) (code uint16, reason string) {
	switch status {
	case http.StatusUnauthorized:
		return 3000, "unauthorized"
	case http.StatusForbidden:
		return 3003, "forbidden"
	}
	return 0, ""
}

// isHandshake reports whether a request is one that RFC 6455 section 4.2.1 describes.
func isHandshake(r *http.Request) bool {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-Websocket-Key"))
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor >= 1 && err == nil && len(key) == 16 &&
		lists(r.Header, "Upgrade", "websocket") && lists(r.Header, "Connection", "upgrade") && r.Header.Get("Sec-Websocket-Version") == "13"
}

// refusalTimeout is how long a client that is refused by a close frame may take.
const refusalTimeout = 2 * time.Second

// closeWebSocket accepts a handshake, and closes the connection at once.
func closeWebSocket(conn net.Conn, buffered *bufio.ReadWriter, r *http.Request, code uint16, reason string) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(refusalTimeout))
	accept := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(accept[:]) + "\r\n"
	offered, _, _ := strings.Cut(r.Header.Get("Sec-Websocket-Protocol"), ",")
	if offered = strings.TrimSpace(offered); offered != "" { // a browser wants one of those that it has offered
		answer += "Sec-WebSocket-Protocol: " + offered + "\r\n"
	}
	frame := binary.BigEndian.AppendUint16([]byte{0x88, byte(2 + len(reason))}, code)
	_, _ = buffered.WriteString(answer + "\r\n")
	_, _ = buffered.Write(append(frame, reason...))
	if buffered.Flush() == nil {
		// Until the client has closed: what it sends must not reset the connection before it has read.
		_, _ = io.Copy(io.Discard, io.LimitReader(buffered, 64<<10))
	}
}
