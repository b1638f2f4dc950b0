package claviger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// Pauses before retries.
	firstPause   = 250 * time.Millisecond
	longestPause = 8 * time.Second
	// What the API asks for where a retryable problem has no Retry-After.
	pauseAfterProblem = time.Second
	// A token file that is being replaced is whole again long before this.
	tokenAttempts = 10
	tokenPause    = 50 * time.Millisecond
)

// repeat says whether a request may be sent again when its response was lost.
type repeat string

const (
	// Nothing changes, or the same state results, whichever attempt is carried out.
	repeatAlways repeat = "always"
	// An idempotency key makes it safe.
	repeatByKey repeat = "key"
	// The caller must look: the second attempt can fail because of the first one.
	repeatNever repeat = "never"
)

// endpoint is what the document says about an operation.
type endpoint struct {
	id, method, path string
	repeat           repeat
	credential       bool
	// An error status whose body is a result nevertheless.
	alsoSuccess int
	// Bounds of a batch.
	mostItems, mostBytes int
}

// request is a call's own part of its request.
type request struct {
	endpoint
	// The values of the path's parameters, in their order.
	names          []string
	query          url.Values
	ifMatch        string
	idempotencyKey string
	body           []byte
	// What is wrong with the arguments.
	wrong error
}

// with makes a request of the values of the path's parameters.
func (e endpoint) with(names ...string) request {
	return request{endpoint: e, names: names}
}

// withKey gives the request an idempotency key; without one the client makes one.
func (r request) withKey(key string) request {
	r.idempotencyKey = key
	return r
}

// withBody adds a JSON object.
func (r request) withBody(members required, options any) request {
	body, err := encodeObject(members, options)
	r.body = body
	r.wrong = errors.Join(r.wrong, err)
	return r
}

// target returns the path and query of the request.
func (r request) target() (string, error) {
	path := r.path
	for _, name := range r.names {
		begin, end := strings.IndexByte(path, '{'), strings.IndexByte(path, '}')
		// What is removed from URLs by whoever reads them would mean another object.
		if name == "" || name == "." || name == ".." {
			return "", invalid("a name is empty or consists of dots")
		}
		path = path[:begin] + url.PathEscape(name) + path[end+1:]
	}
	if len(r.query) > 0 {
		path += "?" + r.query.Encode()
	}
	return path, nil
}

// check returns what is wrong with the arguments.
func (r request) check() error {
	switch {
	case r.wrong != nil:
		return r.wrong
	case !isPrintable(r.ifMatch):
		return invalid("an etag has printable ASCII characters only")
	case r.method == http.MethodPatch && r.ifMatch == "":
		return invalid(`an etag is needed; "*" changes any state`)
	case len(r.idempotencyKey) > 255 || !isPrintable(r.idempotencyKey) || strings.Contains(r.idempotencyKey, " "):
		return invalid("an idempotency key has 1 to 255 printable ASCII characters without spaces")
	}
	return nil
}

// carryOut sends a request until it succeeds, may not be repeated, or has no time left, and returns its last error.
// `result` is a pointer to a model, to a string or to any JSON object, or nil if there is no body.
func (c *Client) carryOut(ctx context.Context, r request, result any) error {
	target, err := r.target()
	if err := errors.Join(c.wrong, r.check(), err); err != nil {
		return err
	}
	if r.repeat == repeatByKey && r.idempotencyKey == "" {
		r.idempotencyKey = rand.Text()
	}
	deadline := time.Now().Add(c.timeout)
	if given, ok := ctx.Deadline(); ok && given.Before(deadline) {
		deadline = given
	}
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if failed := c.attempts(limited, deadline, r, target, result); failed != nil {
		return failed
	}
	return nil
}

func (c *Client) attempts(ctx context.Context, deadline time.Time, r request, target string, result any) *Error {
	var last *Error
	var rejected Secret
	for attempt := 0; ; {
		var token Secret
		if r.credential {
			var failed *Error
			if token, failed = c.credential(ctx, deadline); failed != nil {
				return after(last, failed)
			}
		}
		if !rejected.IsZero() && token.Equal(rejected) {
			return last
		}
		left := time.Until(deadline)
		if left <= 0 || (last != nil && left < shortestTimeout) {
			if last == nil {
				last = timeless()
			}
			return last
		}
		failed := c.attempt(ctx, r, target, token, left, result)
		if failed == nil {
			return nil
		}
		// Of this attempt alone: after one that was not sent, a repetition is as safe as this attempt was.
		pause, again := c.pause(r, failed, attempt)
		last = after(last, failed)
		if last.Code == CodeUnauthenticated && c.tokens.changes() && rejected.IsZero() {
			// The token may have been replaced after it was read. A retry with another one is no repetition.
			rejected = token
			continue
		}
		rejected = Secret{}
		if !again || attempt == c.retries || time.Now().Add(pause+shortestTimeout).After(deadline) {
			return last
		}
		if c.logger != nil {
			c.logger.LogAttrs(ctx, slog.LevelDebug, "claviger: a call is repeated",
				slog.String("operation", r.id), slog.String("code", string(last.Code)), slog.Duration("pause", pause))
		}
		if err := sleep(ctx, pause); errors.Is(err, context.Canceled) {
			return canceled(err, "while it waited to be repeated, after: "+strings.TrimRight(last.Detail, "."), last.MaybeExecuted)
		} else if err != nil {
			// The timer was late: no time is left.
			return last
		}
		attempt++
	}
}

// after returns the error of an attempt after another one: what that may have done stays done.
func after(last, failed *Error) *Error {
	failed.MaybeExecuted = failed.MaybeExecuted || (last != nil && last.MaybeExecuted)
	return failed
}

// credential returns the token of now. It waits for a token file that is being replaced.
func (c *Client) credential(ctx context.Context, deadline time.Time) (Secret, *Error) {
	for attempt := 1; ; attempt++ {
		token, failed := c.tokens.token(ctx)
		if failed == nil {
			return token, nil
		}
		if !failed.Retryable || attempt > tokenAttempts || time.Now().Add(tokenPause).After(deadline) {
			return Secret{}, failed
		}
		if err := sleep(ctx, tokenPause); errors.Is(err, context.Canceled) {
			return Secret{}, canceled(err, "while it waited for the token", false)
		} else if err != nil {
			return Secret{}, failed
		}
	}
}

func (c *Client) attempt(ctx context.Context, r request, target string, token Secret, left time.Duration, result any) *Error {
	found, failed := c.send(ctx, &outgoing{r.method, c.prefix + target, c.header(r, token, left), r.body})
	if failed != nil {
		return failed
	}
	// What the result has of it are copies.
	defer clear(found.body)
	return found.decode(r, result)
}

func (c *Client) header(r request, token Secret, left time.Duration) http.Header {
	// The gateway gets a little less, so that its own answer to a passed deadline, with its request id, arrives.
	allowed := max(shortestTimeout, left-min(250*time.Millisecond, left/10))
	made := http.Header{
		"Accept":           {"application/json"},
		"Accept-Encoding":  {"identity"},
		"User-Agent":       {"claviger-client-go/" + Version},
		"Claviger-Timeout": {fmt.Sprintf("%dms", allowed.Milliseconds())},
	}
	if !token.IsZero() {
		made.Set("Authorization", "Bearer "+string(token.Expose()))
	}
	if r.body != nil {
		made.Set("Content-Type", "application/json")
	}
	for name, value := range map[string]string{
		"Claviger-Tenant": c.tenant, "Claviger-Justification": c.justification, "If-Match": r.ifMatch, "Idempotency-Key": r.idempotencyKey,
	} {
		if value != "" {
			made.Set(name, value)
		}
	}
	return made
}

// pause returns the time until the request may be sent again, and false if it may not.
func (c *Client) pause(r request, failed *Error, attempt int) (time.Duration, bool) {
	if !failed.Retryable {
		return 0, false
	}
	least := failed.RetryAfter
	if failed.Status == 0 || failed.Code == CodeUnexpectedResponse {
		if failed.MaybeExecuted && r.repeat == repeatNever {
			return 0, false
		}
	} else if least == 0 {
		// The gateway itself says that the same request may succeed later.
		least = pauseAfterProblem
	}
	return least + c.jitter(min(longestPause, firstPause<<min(attempt, 10))), true
}

func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// timeless is the error of a call whose time was over before it was sent.
func timeless() *Error {
	return &Error{
		Code:      CodeDeadlineExceeded,
		Title:     "Deadline exceeded",
		Detail:    "The deadline passed before the request was sent.",
		WhatToDo:  "Allow more time.",
		Retryable: true,
		cause:     context.DeadlineExceeded,
	}
}
