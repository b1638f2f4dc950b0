package claviger

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Secret has bytes that do not print: a data key, an unwrapped plaintext, a token.
//
// Formatting and logging show no content, encoding it is an error, and no reflection reaches the content. The zero value
// is a secret that is not there, such as the plaintext of a data key that was generated without one.
type Secret struct {
	// A closure: what prints by reflection follows pointers, but sees nothing of a function's variables.
	content func() *[]byte
}

var errSecretEncoded = errors.New("claviger: a secret is not encoded; call Expose where its content must leave")

// NewSecret makes a secret of a copy of the bytes.
func NewSecret(content []byte) Secret {
	return ownSecret(bytes.Clone(content))
}

// ownSecret makes a secret of the bytes themselves.
func ownSecret(content []byte) Secret {
	if content == nil {
		content = []byte{}
	}
	return Secret{func() *[]byte { return &content }}
}

// Expose returns the bytes themselves: Destroy overwrites them. It returns nil for the zero value, and after Destroy.
// Keep them as briefly as you can, and do not log them.
func (s Secret) Expose() []byte {
	if s.content == nil {
		return nil
	}
	return *s.content()
}

// Destroy overwrites the bytes with zeros, also in copies of this value. What else has a copy of them keeps it, such as
// a cipher that was made of them. Do not call it while another goroutine uses the secret.
func (s Secret) Destroy() {
	if s.content != nil {
		content := s.content()
		clear(*content)
		*content = nil
	}
}

// IsZero reports whether there is no secret. A secret of no bytes is one.
func (s Secret) IsZero() bool {
	return s.content == nil
}

// Len returns the number of bytes.
func (s Secret) Len() int {
	return len(s.Expose())
}

// Equal compares two secrets. For secrets of the same length it always takes the same time.
func (s Secret) Equal(other Secret) bool {
	return s.IsZero() == other.IsZero() && subtle.ConstantTimeCompare(s.Expose(), other.Expose()) == 1
}

// String returns no content.
func (s Secret) String() string {
	return "Secret(...)"
}

// GoString returns no content.
func (s Secret) GoString() string {
	return s.String()
}

// Format writes no content, whatever the verb is.
func (s Secret) Format(state fmt.State, _ rune) {
	// What fails is the caller's writer, who sees that itself.
	_, _ = io.WriteString(state, s.String())
}

// LogValue has no content.
func (s Secret) LogValue() slog.Value {
	return slog.StringValue(s.String())
}

// MarshalJSON returns an error, so that no data key is stored, or lost, by accident.
func (s Secret) MarshalJSON() ([]byte, error) {
	return nil, errSecretEncoded
}

// MarshalText returns an error.
func (s Secret) MarshalText() ([]byte, error) {
	return nil, errSecretEncoded
}

// MarshalBinary returns an error.
func (s Secret) MarshalBinary() ([]byte, error) {
	return nil, errSecretEncoded
}
