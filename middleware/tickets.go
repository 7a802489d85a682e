package middleware

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broadcast"
	"github.com/fanfare-go/fanfare/internal/ratelog"
)

// Tickets lets a page open a stream with a ticket in place of a credential that it cannot
// send: an EventSource and a WebSocket cannot set headers. The page gets a ticket with a POST
// that has its usual authentication, and puts it into the URL, as ticket, or into a
// subprotocol:
//
//	new EventSource("/events?ticket=" + ticket)
//	new WebSocket(url, ["chat.v1", "ticket." + ticket])
//
// The server has to select the real subprotocol (ws.Options.Subprotocols), else Chromium
// closes the connection.
//
// A ticket is valid for TTL and for one stream, so that it does no harm in a proxy's log. It
// is random and sealed with the Secret, identity included: nobody can read or change it, and
// no memory is needed for tickets that are not used.
//
// The zero Tickets works on one server. The fields are set before the first use; a Tickets
// must not be copied after that.
type Tickets struct {
	// TTL is how long a ticket is valid: from Issue until its stream begins. If zero, 30 s; it
	// must not be negative.
	TTL time.Duration

	// Secret lets the servers of a service redeem each other's tickets: at least 32 random
	// bytes, the same on each, which only they know. It needs the Broadcaster. If empty, it is
	// drawn, and a server redeems only tickets that it has issued since it was started.
	Secret []byte

	// Broadcaster is the log that these servers share, a Hub with a Journal. A ticket is
	// redeemed by a message: the first in the log's order gets in, also if two servers are
	// asked at the same moment. The stream waits until its server has read that message, for
	// a round trip to the engine. It needs the Secret.
	Broadcaster broadcast.Broadcaster

	// Topic is where tickets are redeemed. No client may have it. If empty, "fanfare/tickets".
	Topic string

	// Logger gets refusals (Info), without the ticket. If nil, slog.Default().
	Logger *slog.Logger

	reports ratelog.Log
	once    sync.Once // sets secret and the fields of others
	secret  []byte
	others  follower

	// Guarded by mu.
	mu        sync.Mutex
	redeemed  expiring[ticketID, broadcast.ID] // by the first message in the log; zero until it is known
	notBefore time.Time                        // tickets that were issued before may have been redeemed elsewhere
}

const (
	defaultTicketTTL = 30 * time.Second
	ticketsTopic     = "fanfare/tickets"
	minSecret        = 32
	maxIdentity      = 1 << 10
)

type identityKey struct{}

// Identity returns whose ticket a request has redeemed at [Tickets.Handler]; "" if it has
// redeemed none.
func Identity(ctx context.Context) string {
	identity, _ := ctx.Value(identityKey{}).(string)
	return identity
}

// Issue returns the handler that issues tickets, for a POST inside of the user's
// authentication. identity returns for whom: the user, say, or a JSON text with all that
// Grant needs, in UTF-8 and at most 1 KiB. An error refuses the ticket as one of a Grant does a stream,
// and an empty identity does with 401. The answer is {"ticket":"..."}.
func (t *Tickets) Issue(identity func(*http.Request) (string, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
			return
		}
		ticket, err := t.issue(r, identity)
		if err != nil {
			refusal, ok := errors.AsType[*fanfare.Refusal](err)
			if !ok {
				refusal = &fanfare.Refusal{Status: http.StatusInternalServerError, Err: err}
			}
			refuse(w, r, &t.reports, t.Logger, refusal)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{"ticket": ticket}) // an error means that the client has left
	})
}

func (t *Tickets) issue(r *http.Request, identity func(*http.Request) (string, error)) (string, error) {
	if err := t.configure(); err != nil {
		return "", err
	}
	who, err := identity(r)
	switch {
	case err != nil:
		return "", err
	case who == "":
		return "", &fanfare.Refusal{Status: http.StatusUnauthorized, Err: errors.New("the request has no identity")}
	case !utf8.ValidString(who):
		return "", errors.New("middleware: the identity is not UTF-8")
	case len(who) > maxIdentity:
		return "", fmt.Errorf("middleware: the identity has %d bytes, at most %d are allowed", len(who), maxIdentity)
	}
	now := time.Now()
	return seal(t.secret, t.topic(), ticket{Identity: who, Issued: now, Expires: now.Add(cmp.Or(t.TTL, defaultTicketTTL))})
}

func (t *Tickets) topic() string { return cmp.Or(t.Topic, ticketsTopic) }

// configure is called before the fields are used. It returns an error that names a field.
func (t *Tickets) configure() error {
	switch {
	case t.TTL < 0:
		return fmt.Errorf("middleware: Tickets.TTL is %v, and must not be negative", t.TTL)
	case len(t.Secret) > 0 && len(t.Secret) < minSecret:
		return fmt.Errorf("middleware: Tickets.Secret has %d bytes, at least %d are needed", len(t.Secret), minSecret)
	case len(t.Secret) > 0 && t.Broadcaster == nil:
		return errors.New("middleware: Tickets.Secret needs a Broadcaster: else each server would redeem a ticket once")
	case len(t.Secret) == 0 && t.Broadcaster != nil:
		return errors.New("middleware: Tickets.Broadcaster needs a Secret, with which servers redeem each other's tickets")
	}
	t.once.Do(func() {
		if t.secret = t.Secret; len(t.secret) == 0 {
			t.secret = make([]byte, minSecret)
			_, _ = rand.Read(t.secret) // never returns an error
		}
		t.others.broadcaster, t.others.topic = t.Broadcaster, t.topic()
		t.others.apply, t.others.lost = t.applyMessage, t.distrust
	})
	return nil
}

// Handler redeems the ticket of a request, puts its identity into the context, and removes it
// from the URL and the header, so that no logger inside sees it. It goes around the routes of
// streams alone: a request without a ticket, or with one that is not valid any more, is refused
// with 401, one with two tickets with 400. With a Broadcaster it refuses with 503, after five
// seconds, while the log cannot be reached: a ticket that may have been redeemed is not
// redeemed again.
func (t *Tickets) Handler(next http.Handler) http.Handler {
	places := &Token{Query: "ticket", Subprotocol: "ticket."}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		clone := r.Clone(r.Context())
		tickets := places.cutQuery(clone)
		if isPreflight(r) { // its URL is that of the request that follows, and it needs no authorization
			next.ServeHTTP(w, clone)
			return
		}
		offered, err := places.cutSubprotocol(clone.Header)
		tickets = append(tickets, offered...)
		var identity string
		switch {
		case err != nil:
		case len(tickets) > 1:
			err = &fanfare.Refusal{Status: http.StatusBadRequest, Err: errors.New("the request has several tickets")}
		case len(tickets) == 0:
			err = unauthorized("the request has no ticket")
		default:
			identity, err = t.redeem(r.Context(), tickets[0])
		}
		if err != nil {
			refusal, ok := errors.AsType[*fanfare.Refusal](err)
			if !ok {
				refusal = &fanfare.Refusal{Status: http.StatusInternalServerError, Plain: true, Err: err}
			}
			refuseForGood(w, clone, &t.reports, t.Logger, refusal)
			return
		}
		next.ServeHTTP(w, clone.WithContext(context.WithValue(clone.Context(), identityKey{}, identity)))
	})
}

func unauthorized(why string) error {
	return &fanfare.Refusal{Status: http.StatusUnauthorized, Err: errors.New(why)}
}

// redeem returns the identity of a ticket, once.
func (t *Tickets) redeem(ctx context.Context, text string) (identity string, err error) {
	if err := t.configure(); err != nil {
		return "", err
	}
	opened, id, err := unseal(t.secret, t.topic(), text)
	if err != nil {
		return "", unauthorized("the ticket is not one of this service")
	}
	if !time.Now().Before(opened.Expires) {
		return "", unauthorized("the ticket has expired")
	}
	if t.Broadcaster == nil {
		if !t.reserve(id, opened) {
			return "", errRedeemed
		}
		return opened.Identity, nil
	}
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	if err := t.others.ready(ctx); err != nil {
		return "", unavailable(err)
	}
	if !t.reserve(id, opened) {
		return "", errRedeemed
	}
	return opened.Identity, t.redeemInLog(ctx, id, opened)
}

var errRedeemed = unauthorized("the ticket was redeemed already")

func unavailable(err error) error {
	return &fanfare.Refusal{Status: http.StatusServiceUnavailable, Err: fmt.Errorf("whether the ticket was redeemed is not known: %w", err)}
}

// reserve makes a ticket one that was redeemed. It reports false if it may have been before.
func (t *Tickets) reserve(id ticketID, opened ticket) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.redeemed.get(id); known || opened.Issued.Before(t.notBefore) {
		return false
	}
	t.redeemed.set(id, broadcast.ID{}, opened.Expires)
	return true
}

// redemption is what a server publishes that redeems a ticket.
type redemption struct {
	Expires time.Time `json:"expires"`
}

// redeemInLog publishes that this server redeems a ticket, and waits until it has read
// everything up to there. The first such message of a ticket counts. Each has a Key of its own:
// one that was replaced would not be read by all.
func (t *Tickets) redeemInLog(ctx context.Context, id ticketID, opened ticket) error {
	data, err := json.Marshal(redemption{opened.Expires})
	if err != nil {
		return fmt.Errorf("middleware: redeeming a ticket: %w", err)
	}
	key := base64.RawURLEncoding.EncodeToString(id[:]) + "." + rand.Text()
	mine, err := t.Broadcaster.Publish(ctx, broadcast.Message{Topic: t.topic(), Type: "redeemed", Key: key, Data: data})
	if err != nil {
		return unavailable(err)
	}
	if err := t.others.reach(ctx, mine); err != nil {
		return unavailable(err)
	}
	t.mu.Lock()
	first, _ := t.redeemed.get(id)
	distrusted := opened.Issued.Before(t.notBefore)
	t.mu.Unlock()
	if first.value != mine || distrusted {
		return errRedeemed
	}
	return nil
}

// applyMessage notes that a server has redeemed a ticket, this one included.
func (t *Tickets) applyMessage(m *broadcast.Message) {
	var r redemption
	text, _, _ := strings.Cut(m.Key, ".")
	decoded, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(decoded) != len(ticketID{}) || json.Unmarshal(m.Data, &r) != nil || !time.Now().Before(r.Expires) {
		return // of somebody else, or over
	}
	id := ticketID(decoded)
	t.mu.Lock()
	defer t.mu.Unlock()
	first, known := t.redeemed.get(id)
	isFirst := !known || first.value.IsZero() || first.value.Epoch() == m.ID.Epoch() && m.ID.Seq() < first.value.Seq()
	if isFirst {
		t.redeemed.set(id, m.ID, r.Expires)
	}
}

// distrust is called when messages of other servers may be missing.
func (t *Tickets) distrust() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notBefore = time.Now()
}
