package claviger

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decode makes the result of a response, or the error that it is.
func (f *response) decode(r request, result any) *Error {
	succeeded := f.status >= 200 && f.status < 300
	text, isText := result.(*string)
	switch {
	case succeeded && result == nil && f.status == http.StatusNoContent:
		return nil
	case succeeded && isText && f.mediaType() == "text/plain":
		*text = strings.ToValidUTF8(string(f.body), "\ufffd")
		return nil
	case !json.Valid(f.body):
		return f.unexpected("", "")
	}
	body := f.body[skipSpace(f.body, 0):]
	var code string
	if body[0] == '{' {
		for name, value := range eachMember(body) {
			if name == "code" {
				code, _ = unquoted(value)
			}
		}
	}
	// A result that comes with an error's status is no problem document.
	succeeded = succeeded || (f.status == r.alsoSuccess && code == "")
	raw, isRaw := result.(*json.RawMessage)
	switch {
	case succeeded && isRaw && body[0] == '{':
		*raw = slices.Clone(body)
		return nil
	case succeeded && !isRaw && !isText && result != nil:
		if err := decode(body, result); err != nil {
			return f.unexpected("in its body "+err.Error(), "Check that this release of the client goes with the gateway.")
		}
		reflect.ValueOf(result).Elem().FieldByName("Meta").Set(reflect.ValueOf(f.meta()))
		return nil
	case !succeeded && code != "":
		made := fromProblem(body)
		made.Status, made.RetryAfter, made.AuditIndex = f.status, f.retryAfter(), f.meta().AuditIndex
		return made
	}
	return f.unexpected("", "")
}

func (f *response) meta() Meta {
	return Meta{RequestID: f.header.Get("X-Request-Id"), AuditIndex: f.header.Get("Claviger-Audit-Index")}
}

func (f *response) retryAfter() time.Duration {
	seconds, err := strconv.ParseUint(f.header.Get("Retry-After"), 10, 30)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

func (f *response) mediaType() string {
	kind, _, err := mime.ParseMediaType(f.header.Get("Content-Type"))
	if err != nil {
		return "no content type"
	}
	return kind
}

// unexpected is the error for a response that is not one of a gateway.
func (f *response) unexpected(what, advice string) *Error {
	kind := f.mediaType()
	// Statuses of a proxy whose gateway is away.
	away := f.status == http.StatusBadGateway || f.status == http.StatusServiceUnavailable || f.status == http.StatusGatewayTimeout
	switch {
	case advice != "":
	case f.status >= 300 && f.status < 400:
		advice = "Redirects are not followed. Set the address to where the gateway is."
	case away:
		advice = "A proxy or a load balancer does not reach the gateway. Check that the gateway runs (/readyz), and what is between."
	default:
		advice = "Check the address, and what is between the client and the gateway: a proxy or a load balancer answered, or another service."
	}
	made := &Error{
		Code:      CodeUnexpectedResponse,
		Title:     "Unexpected response",
		WhatToDo:  advice,
		Status:    f.status,
		RequestID: f.meta().RequestID,
		// JSON that ends too early is a response that was lost on the way.
		Retryable:     away || (f.status < 300 && kind == "application/json" && what == ""),
		MaybeExecuted: f.status < 300 || away,
		RetryAfter:    f.retryAfter(),
	}
	if what == "" {
		what = kind
	}
	made.Detail = fmt.Sprintf("The response is not one of a Claviger gateway: status %d, %s.", f.status, what)
	return made
}
