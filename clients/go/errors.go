package claviger

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Error is why a call failed: what the gateway answered, or what came in between.
//
// Compare with a class by [errors.Is], such as [ErrKeyUnusable], and read Code for the exact reason. Wrong arguments are
// an [ErrInvalidArgument] before anything is sent, and no Error.
type Error struct {
	// The error code, such as CodeKeyDisabled. One that this release does not know is of no class: go by Status and
	// Retryable then.
	Code ErrorCode

	// Short name of the kind of problem.
	Title string

	// What happened, in one sentence.
	Detail string

	// How to correct the problem.
	WhatToDo string

	// The HTTP status; 0 if no response came.
	Status int

	// The gateway's id of the request, which is in its audit record, too.
	RequestID string

	// The place of the request's record in the audit log.
	AuditIndex string

	// Whether the same call may succeed later. The client has then repeated it already where that is safe.
	Retryable bool

	// Whether the gateway may have carried out the request, in the last attempt or one before it, although no usable
	// response came.
	MaybeExecuted bool

	// After which time the gateway expects a repetition to help; 0 if it does not say.
	RetryAfter time.Duration

	// The places in the request with unusable values.
	Places []Place

	// Of CodeAlreadyCreated: the id of what the first request created.
	CreatedID string

	// The kind of provider that refused the call or failed.
	Provider ProviderName

	// The provider's own message.
	ProviderMessage string

	// Members of the problem that this release does not know.
	Extra Extra

	cause error
}

// Place is a place in the request with an unusable value.
type Place struct {
	// A JSON pointer into the body, or `header:`, `query:` or `path:` and a name.
	Pointer string

	// What the gateway expects there.
	Expected string
}

// Error returns everything that helps, in one line.
func (e *Error) Error() string {
	parts := []string{fmt.Sprintf("%s [%s]", e.Detail, e.Code)}
	for _, place := range e.Places {
		parts = append(parts, fmt.Sprintf("%s: expected %s.", place.Pointer, place.Expected))
	}
	if e.ProviderMessage != "" {
		parts = append(parts, "The provider: "+e.ProviderMessage)
	}
	if e.WhatToDo != "" {
		parts = append(parts, e.WhatToDo)
	}
	if e.RequestID != "" {
		parts = append(parts, fmt.Sprintf("(request %s)", e.RequestID))
	}
	return strings.Join(parts, " ")
}

// Is reports whether the error is of the class, or of one below it.
func (e *Error) Is(target error) bool {
	for of := classes[e.Code]; of != nil; of = of.above {
		if error(of) == target {
			return true
		}
	}
	return false
}

// Unwrap returns the context's error if that ended the call, or the error of a function that returns tokens.
func (e *Error) Unwrap() error {
	return e.cause
}

// The client's own codes.
const (
	CodeGatewayUnreachable   ErrorCode = "gateway_unreachable"
	CodeCertificateUntrusted ErrorCode = "certificate_untrusted"
	CodeConnectionLost       ErrorCode = "connection_lost"
	CodeResponseTruncated    ErrorCode = "response_truncated"
	CodeUnexpectedResponse   ErrorCode = "unexpected_response"
	CodeTokenUnusable        ErrorCode = "token_unusable"
	CodeCanceled             ErrorCode = "canceled"
	CodeFileUnrecognized     ErrorCode = "file_unrecognized"
	CodeFileVersion          ErrorCode = "file_version_unsupported"
	CodeFileTruncated        ErrorCode = "file_truncated"
	CodeFileHeaderMismatch   ErrorCode = "file_header_mismatch"
	CodeFileDamaged          ErrorCode = "file_damaged"
)

// Known reports whether this release of the client knows the code.
func (c ErrorCode) Known() bool {
	_, ofGateway := codes[c]
	return ofGateway || slices.Contains(ownCodes, c)
}

// Status returns the HTTP status of the code; 0 if it is not known, or the client's own.
func (c ErrorCode) Status() int {
	return codes[c].status
}

// Retryable reports whether the code is one of those after which the same request may succeed later. Of an [Error] that
// its own Retryable says.
func (c ErrorCode) Retryable() bool {
	return codes[c].retryable
}

var ownCodes = []ErrorCode{
	CodeGatewayUnreachable, CodeCertificateUntrusted, CodeConnectionLost, CodeResponseTruncated, CodeUnexpectedResponse, CodeTokenUnusable,
	CodeCanceled, CodeFileUnrecognized, CodeFileVersion, CodeFileTruncated, CodeFileHeaderMismatch, CodeFileDamaged,
}

// codeFacts is what the document says about a code.
type codeFacts struct {
	status    int
	retryable bool
	title     string
}

// ErrInvalidArgument is what a call returns for arguments that no request can be made of.
var ErrInvalidArgument = errors.New("claviger: invalid argument")

func invalid(format string, values ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidArgument, fmt.Sprintf(format, values...))
}

// fromProblem makes the error of a problem document (RFC 9457). Members of another type than documented are left out:
// they must not hide what failed.
func fromProblem(text []byte) *Error {
	made := &Error{Extra: Extra{}}
	fields := map[string]any{
		"title": &made.Title, "status": &made.Status, "detail": &made.Detail, "code": &made.Code, "request_id": &made.RequestID,
		"retryable": &made.Retryable, "provider": &made.Provider, "provider_message": &made.ProviderMessage, "what_to_do": &made.WhatToDo,
		"created_id": &made.CreatedID,
	}
	for name, value := range eachMember(text) {
		into := fields[name]
		switch {
		case into != nil:
			// A member of another type leaves the field as it is.
			_ = json.Unmarshal(value, into)
		case name == "errors":
			var places []Place
			if json.Unmarshal(value, &places) == nil {
				made.Places = places
			}
		case name != "type":
			made.Extra[name] = slices.Clone(value)
		}
	}
	if made.Detail == "" {
		made.Detail = "The request failed."
	}
	made.MaybeExecuted = made.Code == CodeDeadlineExceeded
	return made
}
