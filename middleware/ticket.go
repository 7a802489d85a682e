package middleware

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"
)

// ticket is what a ticket says, to those who have the secret.
type ticket struct {
	Identity string    `json:"identity"`
	Issued   time.Time `json:"issued"`
	Expires  time.Time `json:"expires"`
}

// ticketID is the random part of a ticket. Each ticket is sealed with a key of its own, which
// is derived from it.
type ticketID [16]byte

// maxTicket is more than a ticket has whose identity is as long as it may be.
const maxTicket = 10 << 10

var errNoTicket = errors.New("middleware: not a ticket")

func seal(secret []byte, topic string, t ticket) (string, error) {
	var id ticketID
	_, _ = rand.Read(id[:]) // never returns an error
	aead, err := sealOf(secret, topic, id)
	if err != nil {
		return "", err
	}
	plain, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(aead.Seal(id[:], make([]byte, aead.NonceSize()), plain, nil)), nil
}

// unseal returns what a ticket says. It compares in constant time.
func unseal(secret []byte, topic, text string) (t ticket, id ticketID, err error) {
	if len(text) > maxTicket {
		return ticket{}, id, errNoTicket
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(sealed) < len(id) {
		return ticket{}, id, errNoTicket
	}
	id = ticketID(sealed[:len(id)])
	aead, err := sealOf(secret, topic, id)
	if err != nil {
		return ticket{}, id, err
	}
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), sealed[len(id):], nil)
	if err != nil {
		return ticket{}, id, errNoTicket
	}
	err = json.Unmarshal(plain, &t)
	return t, id, err
}

// sealOf returns the seal of one ticket. Its key seals nothing else, so its nonce is zero.
func sealOf(secret []byte, topic string, id ticketID) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, id[:], "fanfare ticket "+topic, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
