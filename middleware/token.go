package middleware

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/internal/ratelog"
)

// Token moves a bearer token to the Authorization header, where authentication looks for
// it, from the places where a browser can put one: an EventSource and a WebSocket cannot
// set headers. It removes the token from its place, so that no logger below sees it and
// no server sends it back.
//
// It changes only requests for streams: those whose Accept header lists
// text/event-stream, the handshakes of WebSockets, and the URLs of CORS preflight
// requests. An Authorization header that the request has already is kept. The zero Token
// does nothing. The fields are set before the first use.
type Token struct {
	// Query is the name of a query parameter with the token. Proxies log URLs, and
	// browsers keep them in their history: give such tokens a short life. If empty, no
	// parameter is read.
	Query string

	// Subprotocol is the prefix of a WebSocket subprotocol that carries the token, such
	// as "bearer.". The client offers it together with a real subprotocol, which the
	// server has to select (ws.Options.Subprotocols), else Chromium closes the connection:
	//
	//	new WebSocket(url, ["chat.v1", "bearer." + token])
	//
	// If it begins with "base64url.", the token is in base64url without padding. If it
	// does not end with a dot, it is a whole subprotocol, and the token is the next one
	// that the client offers. If empty, no subprotocol is read.
	Subprotocol string

	// Logger gets refusals (Info), without the token. If nil, slog.Default().
	Logger *slog.Logger
}

// maxToken is more than servers accept in a header.
const maxToken = 8 << 10

// Handler passes the request on with the token in its Authorization header. It refuses
// with 400 a request with two tokens, with a token of more than 8 KiB, and with one that
// RFC 6750 section 2.1 does not allow. It goes outside of Bypass and of loggers.
func (t *Token) Handler(next http.Handler) http.Handler {
	var log ratelog.Log // here, so that the configuration may be copied
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		isWebSocket, isPreflight := lists(r.Header, "Upgrade", "websocket"), isPreflight(r)
		if !isWebSocket && !isPreflight && !lists(r.Header, "Accept", "text/event-stream") {
			next.ServeHTTP(w, r)
			return
		}
		clone := r.Clone(r.Context())
		tokens := t.cutQuery(clone)
		if isPreflight { // its URL is that of the request that follows, and it needs no authorization
			next.ServeHTTP(w, clone)
			return
		}
		var err error
		if isWebSocket {
			var offered []string
			offered, err = t.cutSubprotocol(clone.Header)
			tokens = append(tokens, offered...)
		}
		if err == nil {
			err = validTokens(tokens)
		}
		if err != nil {
			refuse(w, clone, &log, t.Logger, &fanfare.Refusal{Status: http.StatusBadRequest, Err: err})
			return
		}
		if len(tokens) == 1 && clone.Header.Get("Authorization") == "" {
			clone.Header.Set("Authorization", "Bearer "+tokens[0])
		}
		next.ServeHTTP(w, clone)
	})
}

// lists reports whether a header contains a value, in any case and any of its lines. It
// may find too much, never too little.
func lists(header http.Header, name, value string) bool {
	return strings.Contains(strings.ToLower(strings.Join(header.Values(name), ",")), value)
}

// cutQuery removes the parameter from the URL, and returns its values but empty ones.
// The rest of the URL is kept byte for byte.
func (t *Token) cutQuery(r *http.Request) (tokens []string) {
	if t.Query == "" || !strings.Contains(r.URL.RawQuery, "=") {
		return nil
	}
	var rest []string
	found := false
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); err != nil || name != t.Query {
			rest = append(rest, pair)
			continue
		}
		found = true
		if value, err := url.QueryUnescape(value); err != nil {
			tokens = append(tokens, "%") // validTokens refuses it
		} else if value != "" {
			tokens = append(tokens, value)
		}
	}
	if !found {
		return nil
	}
	delete(r.Form, t.Query) // in case the form has been parsed already
	r.URL.RawQuery = strings.Join(rest, "&")
	r.RequestURI, _, _ = strings.Cut(r.RequestURI, "?")
	if r.URL.RawQuery != "" {
		r.RequestURI += "?" + r.URL.RawQuery
	}
	return tokens
}

// cutSubprotocol removes the subprotocols that carry a token from those that the client
// offers, and returns the tokens but empty ones.
func (t *Token) cutSubprotocol(header http.Header) (tokens []string, err error) {
	const name = "Sec-Websocket-Protocol"
	if t.Subprotocol == "" || header.Get(name) == "" {
		return nil, nil
	}
	var rest []string
	offers := strings.Split(strings.Join(header.Values(name), ","), ",")
	for i := 0; i < len(offers); i++ {
		offer := strings.TrimSpace(offers[i])
		token, found := strings.CutPrefix(offer, t.Subprotocol)
		switch {
		case !strings.HasSuffix(t.Subprotocol, "."):
			if found = offer == t.Subprotocol; found && i+1 < len(offers) {
				i++
				token = strings.TrimSpace(offers[i])
			}
		case found && strings.HasPrefix(t.Subprotocol, "base64url."):
			decoded, err := base64.RawURLEncoding.DecodeString(token)
			if err != nil {
				return nil, errors.New("middleware: the token in the subprotocol is not base64url without padding")
			}
			token = string(decoded)
		}
		switch {
		case !found:
			rest = append(rest, offer)
		case token != "":
			tokens = append(tokens, token)
		}
	}
	header.Del(name)
	if len(rest) > 0 {
		header.Set(name, strings.Join(rest, ", "))
	}
	return tokens, nil
}

// validTokens returns an error unless there is at most one token, of the form of
// RFC 6750 section 2.1 (b64token).
func validTokens(tokens []string) error {
	switch {
	case len(tokens) == 0:
		return nil
	case len(tokens) > 1:
		return errors.New("middleware: the request has several tokens")
	case len(tokens[0]) > maxToken:
		return errors.New("middleware: the token is longer than 8 KiB")
	}
	body := strings.TrimRight(tokens[0], "=")
	if body == "" {
		return errors.New("middleware: the token consists of padding only")
	}
	for _, c := range body {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.ContainsRune("-._~+/", c):
		default:
			return errors.New("middleware: the token contains a character that RFC 6750 does not allow")
		}
	}
	return nil
}
