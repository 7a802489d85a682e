package middleware

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
)

// Token moves a bearer token from where a browser can put it to the Authorization
// header, where authentication looks for it: an EventSource and a WebSocket have no
// way to set headers. What it finds it takes out of the request, so that no logger
// below sees it and no server echoes it.
//
// It touches only requests for streams: those whose Accept names text/event-stream,
// WebSocket handshakes, and the URLs of CORS preflight requests. An Authorization
// header that the request has stays. It is set before its first use; the zero Token
// does nothing.
type Token struct {
	// Query is the name of a query parameter. A URL ends up in the logs of proxies and
	// in browsers' histories: give such tokens a short life. If empty, none is looked
	// for.
	Query string

	// Subprotocol is what begins a WebSocket subprotocol that carries the token, such
	// as "bearer.": the client offers it beside a real one, which the server then
	// picks.
	//
	//	new WebSocket(url, ["chat.v1", "bearer." + token])
	//
	// If it begins with "base64url.", the token is what its rest decodes to, without
	// padding. If it does not end with a dot, the token is the subprotocol that
	// follows it. If empty, none is looked for.
	Subprotocol string

	// Logger gets refusals (Info), without the token. If nil, slog.Default().
	Logger *slog.Logger
}

// maxToken is more than servers take in a header.
const maxToken = 8 << 10

// Handler hands next a request with the token in its header. It refuses a token that
// is none with 400: two of them, one that is too long, one with other characters than
// RFC 6750 allows. It goes outside of loggers, inside of Bypass.
func (t *Token) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		names := func(header, value string) bool {
			return strings.Contains(strings.ToLower(strings.Join(r.Header.Values(header), ",")), value)
		}
		isWebSocket := names("Upgrade", "websocket")
		isPreflight := r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
		if !isWebSocket && !isPreflight && !names("Accept", "text/event-stream") {
			next.ServeHTTP(w, r)
			return
		}
		clone := r.Clone(r.Context())
		tokens := t.takeQuery(clone)
		if isPreflight { // it has the URL of the request to come, and no authority
			next.ServeHTTP(w, clone)
			return
		}
		if isWebSocket {
			more, err := t.takeSubprotocol(clone.Header)
			if err != nil {
				refuse(w, clone, t.Logger, http.StatusBadRequest, 0, true, err)
				return
			}
			tokens = append(tokens, more...)
		}
		if err := validTokens(tokens); err != nil {
			refuse(w, clone, t.Logger, http.StatusBadRequest, 0, true, err)
			return
		}
		if len(tokens) == 1 && clone.Header.Get("Authorization") == "" {
			clone.Header.Set("Authorization", "Bearer "+tokens[0])
		}
		next.ServeHTTP(w, clone)
	})
}

// takeQuery removes the parameter from the URL, and leaves the rest of it as it was.
func (t *Token) takeQuery(r *http.Request) (tokens []string) {
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
			tokens = append(tokens, "%") // which is no token
		} else if value != "" {
			tokens = append(tokens, value)
		}
	}
	if !found {
		return nil
	}
	delete(r.Form, t.Query) // if somebody has parsed it already
	r.URL.RawQuery = strings.Join(rest, "&")
	r.RequestURI, _, _ = strings.Cut(r.RequestURI, "?")
	if r.URL.RawQuery != "" {
		r.RequestURI += "?" + r.URL.RawQuery
	}
	return tokens
}

// takeSubprotocol removes what carries a token from those that are offered.
func (t *Token) takeSubprotocol(header http.Header) (tokens []string, err error) {
	const name = "Sec-Websocket-Protocol"
	if t.Subprotocol == "" || header.Get(name) == "" {
		return nil, nil
	}
	var rest []string
	offered := strings.Split(strings.Join(header.Values(name), ","), ",")
	for i := 0; i < len(offered); i++ {
		offer := strings.TrimSpace(offered[i])
		token, found := strings.CutPrefix(offer, t.Subprotocol)
		switch {
		case !strings.HasSuffix(t.Subprotocol, "."):
			if found = offer == t.Subprotocol; found && i+1 < len(offered) {
				i++
				token = strings.TrimSpace(offered[i])
			}
		case found && strings.HasPrefix(t.Subprotocol, "base64url."):
			decoded, err := base64.RawURLEncoding.DecodeString(token)
			if err != nil {
				return nil, errors.New("middleware: the token in the subprotocol is not in base64url")
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
	if header.Del(name); len(rest) > 0 {
		header.Set(name, strings.Join(rest, ", "))
	}
	return tokens, nil
}

func validTokens(tokens []string) error {
	switch {
	case len(tokens) == 0:
		return nil
	case len(tokens) > 1:
		return errors.New("middleware: several tokens")
	case len(tokens[0]) > maxToken:
		return errors.New("middleware: a token of more than 8 KiB")
	}
	body := strings.TrimRight(tokens[0], "=") // b64token, RFC 6750 section 2.1
	for _, c := range body {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.ContainsRune("-._~+/", c):
		default:
			return errors.New("middleware: a token with other characters than one may have")
		}
	}
	if body == "" {
		return errors.New("middleware: a token without a character")
	}
	return nil
}
