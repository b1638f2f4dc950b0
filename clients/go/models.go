package claviger

import (
	"encoding/json"
	"fmt"
)

// Meta is what the headers of a response say.
type Meta struct {
	// The gateway's id of the request, which is in its audit record, too.
	RequestID string

	// The place of the request's record in the audit log; of a batch each item has its own.
	AuditIndex string
}

// Extra has the members of an object that this release of the client does not know, as JSON. It does not print: a later
// gateway may add a secret.
type Extra map[string]json.RawMessage

// String returns the number of members.
func (e Extra) String() string {
	return fmt.Sprintf("Extra(%d members)", len(e))
}

// Format writes the number of members, whatever the verb is.
func (e Extra) Format(state fmt.State, _ rune) {
	// What fails is the caller's writer, who sees that itself.
	_, _ = fmt.Fprint(state, e.String())
}

// Change is what becomes of a setting: it stays as it is (the zero value), gets a value ([SetTo]), or is removed
// ([Remove]).
type Change struct {
	changed bool
	value   *string
}

// SetTo gives a setting a value.
func SetTo(value string) Change {
	return Change{true, &value}
}

// Remove removes a setting.
func Remove() Change {
	return Change{true, nil}
}

// IsZero reports whether the setting stays as it is.
func (c Change) IsZero() bool {
	return !c.changed
}

// Pointer returns a pointer to a value, for optional members where the zero value means something else than leaving the
// member out.
func Pointer[T any](value T) *T {
	return &value
}
