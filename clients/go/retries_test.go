package claviger

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// script plays the part of the network, in time that passes at once: each request has the next of the outcomes, or the
// last one again and again.
type script struct {
	outcomes []outcome
	// How long each takes.
	takes    time.Duration
	requests []*http.Request
	begun    []time.Time
	jitters  []time.Duration
}

type outcome func(*http.Request) (*http.Response, error)

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	s.requests, s.begun = append(s.requests, r), append(s.begun, time.Now())
	select {
	case <-time.After(s.takes):
		return s.outcomes[min(len(s.requests), len(s.outcomes))-1](r)
	case <-r.Context().Done():
		httptrace.ContextClientTrace(r.Context()).GotConn(httptrace.GotConnInfo{})
		return nil, r.Context().Err()
	}
}

// pauses are the times between an outcome and the next request.
func (s *script) pauses() []time.Duration {
	var found []time.Duration
	for i, begun := range s.begun[1:] {
		found = append(found, begun.Sub(s.begun[i])-s.takes)
	}
	return found
}

func (s *script) headers(name string) []string {
	var found []string
	for _, r := range s.requests {
		found = append(found, r.Header.Get(name))
	}
	return found
}

func gives(status int, kind, body string, headers ...string) outcome {
	return func(*http.Request) (*http.Response, error) {
		header := http.Header{"Content-Type": {kind}}
		for i := 0; i < len(headers); i += 2 {
			header.Set(headers[i], headers[i+1])
		}
		return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1}, nil
	}
}

func refusal(status int, code string, retryable bool, headers ...string) outcome {
	document := map[string]any{"code": code, "detail": "D.", "title": "T", "status": status, "request_id": "r", "retryable": retryable}
	return gives(status, "application/problem+json", string(marshal(document)), headers...)
}

func lost(r *http.Request) (*http.Response, error) {
	httptrace.ContextClientTrace(r.Context()).GotConn(httptrace.GotConnInfo{})
	return nil, io.EOF
}

func refused(*http.Request) (*http.Response, error) {
	return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
}

var (
	success         = gives(200, "application/json", string(marshal(keyWith(nil))), "X-Request-Id", "0193", "Claviger-Audit-Index", "log#1")
	limited         = refusal(429, "rate_limited", true)
	unauthenticated = refusal(401, "unauthenticated", false)
)

type caller func(context.Context, *Client) error

func getKey(ctx context.Context, c *Client) error {
	_, err := c.GetKey(ctx, "orders")
	return err
}

func createKey(ctx context.Context, c *Client) error {
	_, err := c.CreateKey(ctx, "orders", "embedded", CreateKeyOptions{})
	return err
}

func updateKey(ctx context.Context, c *Client) error {
	_, err := c.UpdateKey(ctx, "orders", "*", UpdateKeyOptions{Labels: map[string]string{}})
	return err
}

func deleteKey(ctx context.Context, c *Client) error { return c.DeleteKey(ctx, "orders") }

func noJitter(time.Duration) time.Duration { return 0 }

// play carries out a call against the script, and returns its error.
func play(t *testing.T, s *script, call caller, options ...Option) error {
	t.Helper()
	return playOn(t, s, call, append(options, WithToken(someToken))...)
}

func playOn(t *testing.T, s *script, call caller, options ...Option) error {
	t.Helper()
	client := must(New("http://localhost", options...))(t)
	client.roundTripper = s
	client.jitter = func(longest time.Duration) time.Duration {
		s.jitters = append(s.jitters, longest)
		return longest
	}
	var err error
	synctest.Test(t, func(t *testing.T) { err = call(t.Context(), client) })
	return err
}

func TestSuccessHasItsRequestAndRecord(t *testing.T) {
	s := &script{outcomes: []outcome{success}}
	var key *Key
	succeeds(t, play(t, s, func(ctx context.Context, c *Client) (err error) {
		key, err = c.GetKey(ctx, "orders")
		return err
	}, WithTenant("acme"), WithJustification("Ticket 4711")))
	equal(t, key.Meta, Meta{RequestID: "0193", AuditIndex: "log#1"})
	equal(t, key.Cache.MaxAge, time.Minute)
	r := s.requests[0]
	equal(t, r.URL.String(), "http://localhost/v1/keys/orders")
	equal(t, r.Header, http.Header{
		"Accept": {"application/json"}, "Accept-Encoding": {"identity"}, "Authorization": {"Bearer " + someToken},
		"Claviger-Justification": {"Ticket 4711"}, "Claviger-Tenant": {"acme"}, "Claviger-Timeout": {"29750ms"},
		"User-Agent": {"claviger-client-go/" + Version},
	})
}

func TestRetryableIsRetriedWithGrowingJitter(t *testing.T) {
	s := &script{outcomes: []outcome{limited}}
	failed(t, play(t, s, getKey), ErrRateLimited)
	equal(t, len(s.requests), 5)
	equal(t, s.jitters[:4], []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second})
	// The documented second, and the jitter on top.
	equal(t, s.pauses(), []time.Duration{1250 * time.Millisecond, 1500 * time.Millisecond, 2 * time.Second, 3 * time.Second})
	s = &script{outcomes: []outcome{limited}}
	failed(t, play(t, s, getKey, WithRetries(0)), ErrRateLimited)
	equal(t, len(s.requests), 1)
}

func TestPausesStopGrowing(t *testing.T) {
	s := &script{outcomes: []outcome{refused}}
	failed(t, play(t, s, getKey, WithRetries(300), WithTimeout(9999*time.Second)), ErrGatewayUnreachable)
	equal(t, len(s.requests), 301)
	equal(t, slices.Max(s.jitters), 8*time.Second)
}

func TestRetryAfterIsTheLeastPause(t *testing.T) {
	s := &script{outcomes: []outcome{refusal(503, "not_ready", true, "Retry-After", "7"), success}}
	succeeds(t, play(t, s, getKey))
	equal(t, s.pauses(), []time.Duration{7250 * time.Millisecond})
	s = &script{outcomes: []outcome{refusal(503, "not_ready", true, "Retry-After", "31")}}
	err := failed(t, play(t, s, getKey), ErrUnavailable)
	equal(t, []any{len(s.requests), err.RetryAfter}, []any{1, 31 * time.Second})
	for _, nonsense := range []string{"soon", "-1", "+1", "1.5", "²", "9999999999", strings.Repeat("9", 30)} {
		s = &script{outcomes: []outcome{refusal(503, "not_ready", true, "Retry-After", nonsense), success}}
		succeeds(t, play(t, s, getKey))
		equal(t, s.pauses(), []time.Duration{1250 * time.Millisecond})
	}
}

func TestNotRetryableIsNotRetried(t *testing.T) {
	s := &script{outcomes: []outcome{refusal(409, "key_disabled", false)}}
	failed(t, play(t, s, getKey), ErrKeyUnusable)
	equal(t, len(s.requests), 1)
	// An unknown code goes by `retryable`, too.
	s = &script{outcomes: []outcome{refusal(418, "later_code", false)}}
	err := failed(t, play(t, s, getKey), nil)
	equal(t, []any{err.Code, err.Code.Known(), err.Status, len(s.requests)}, []any{ErrorCode("later_code"), false, 418, 1})
	succeeds(t, play(t, &script{outcomes: []outcome{refusal(503, "later_code", true), success}}, getKey))
}

func TestDeadlineIsSentAndShrinks(t *testing.T) {
	s := &script{outcomes: []outcome{limited}, takes: 2 * time.Second}
	failed(t, play(t, s, getKey, WithTimeout(10*time.Second)), ErrRateLimited)
	// Each attempt takes 2 s, and the pauses 1.25 s and 1.5 s.
	equal(t, s.headers("Claviger-Timeout"), []string{"9750ms", "6500ms", "3000ms"})
	s = &script{outcomes: []outcome{success}}
	succeeds(t, play(t, s, getKey, WithTimeout(100*time.Millisecond)))
	equal(t, s.headers("Claviger-Timeout"), []string{"100ms"})
}

func TestNoTimeIsSleptAway(t *testing.T) {
	s := &script{outcomes: []outcome{limited}}
	failed(t, play(t, s, getKey, WithTimeout(time.Second)), ErrRateLimited)
	equal(t, []int{len(s.requests), len(s.jitters)}, []int{1, 1})
}

func TestDeadlineThatPassed(t *testing.T) {
	s := &script{outcomes: []outcome{success}, takes: time.Minute}
	err := failed(t, play(t, s, getKey, WithTimeout(time.Second)), ErrDeadlineExceeded)
	equal(t, []any{err.MaybeExecuted, err.RequestID, errors.Is(err, context.DeadlineExceeded)}, []any{true, "", true})
	slow := WithTokenFunc(func(context.Context) (string, error) {
		time.Sleep(300 * time.Millisecond)
		return someToken, nil
	})
	s = &script{outcomes: []outcome{success}}
	err = failed(t, playOn(t, s, getKey, slow, WithTimeout(200*time.Millisecond)), ErrDeadlineExceeded)
	equal(t, []any{err.MaybeExecuted, len(s.requests), errors.Is(err, context.DeadlineExceeded)}, []any{false, 0, true})
}

func TestDeadlineThatPassedAtTheGateway(t *testing.T) {
	s := &script{outcomes: []outcome{refusal(504, "deadline_exceeded", true)}}
	err := failed(t, play(t, s, updateKey), ErrDeadlineExceeded)
	equal(t, []any{err.MaybeExecuted, err.RequestID, errors.Is(err, context.DeadlineExceeded)}, []any{true, "r", false})
	// The gateway itself says that the same request may be repeated.
	equal(t, len(s.requests), 5)
	// It still may when an attempt in between was not sent.
	succeeds(t, play(t, &script{outcomes: []outcome{refusal(504, "deadline_exceeded", true), refused, success}}, updateKey))
}

func TestContextShortensTheDeadline(t *testing.T) {
	s := &script{outcomes: []outcome{success}, takes: 5 * time.Second}
	err := failed(t, play(t, s, func(ctx context.Context, c *Client) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return getKey(ctx, c)
	}), ErrDeadlineExceeded)
	equal(t, s.headers("Claviger-Timeout"), []string{"1800ms"})
	equal(t, errors.Is(err, context.DeadlineExceeded), true)
	// It cannot make it longer.
	s = &script{outcomes: []outcome{success}}
	succeeds(t, play(t, s, func(ctx context.Context, c *Client) error {
		ctx, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		return getKey(ctx, c)
	}))
	equal(t, s.headers("Claviger-Timeout"), []string{"29750ms"})
}

func TestContextCancelsACall(t *testing.T) {
	canceledAfter := func(after time.Duration, call caller) caller {
		return func(ctx context.Context, c *Client) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			time.AfterFunc(after, cancel)
			return call(ctx, c)
		}
	}
	// While the response is awaited, also of a call that would be repeated otherwise.
	var s *script
	var err *Error
	for _, call := range []caller{updateKey, getKey} {
		s = &script{outcomes: []outcome{success}, takes: time.Second}
		err = failed(t, play(t, s, canceledAfter(time.Second/2, call)), context.Canceled)
		equal(t, []any{err.Code, err.MaybeExecuted, err.Retryable, len(s.requests)}, []any{CodeCanceled, true, false, 1})
	}
	// While it waits to be repeated.
	s = &script{outcomes: []outcome{limited}}
	err = failed(t, play(t, s, canceledAfter(time.Second/2, createKey)), context.Canceled)
	equal(t, []any{err.Code, err.MaybeExecuted, len(s.requests)}, []any{CodeCanceled, false, 1})
	contains(t, err.Detail, "after: D")
	s = &script{outcomes: []outcome{lost}}
	equal(t, failed(t, play(t, s, canceledAfter(time.Second/10, createKey)), context.Canceled).MaybeExecuted, true)
	// Before it began.
	s = &script{outcomes: []outcome{success}}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	client := must(New("http://127.0.0.1:1", WithToken(someToken)))(t)
	err = failed(t, getKey(gone, client), context.Canceled)
	equal(t, []any{err.Code, err.MaybeExecuted}, []any{CodeCanceled, false})
}

func TestIdempotencyKeyIsKeptOverRetries(t *testing.T) {
	s := &script{outcomes: []outcome{refused, lost, refusal(409, "in_progress", true), success}}
	succeeds(t, play(t, s, createKey))
	keys := s.headers("Idempotency-Key")
	equal(t, keys, slices.Repeat(keys[:1], 4))
	equal(t, len(keys[0]) > 20, true)
	another := &script{outcomes: []outcome{success}}
	succeeds(t, play(t, another, createKey))
	equal(t, another.headers("Idempotency-Key")[0] != keys[0], true)
	given := &script{outcomes: []outcome{lost, success}}
	succeeds(t, play(t, given, func(ctx context.Context, c *Client) error {
		_, err := c.CreateKey(ctx, "orders", "embedded", CreateKeyOptions{IdempotencyKey: "mine"})
		return err
	}))
	equal(t, given.headers("Idempotency-Key"), []string{"mine", "mine"})
	none := &script{outcomes: []outcome{success}}
	succeeds(t, play(t, none, getKey))
	equal(t, none.headers("Idempotency-Key"), []string{""})
}

func TestLostResponseIsRepeatedWhereThatIsSafe(t *testing.T) {
	for _, call := range []caller{
		getKey, createKey,
		func(ctx context.Context, c *Client) error { return c.DeleteToken(ctx, "p", "t") },
		func(ctx context.Context, c *Client) error {
			_, err := c.DisableKey(ctx, "orders", DisableKeyOptions{})
			return err
		},
		func(ctx context.Context, c *Client) error {
			_, err := c.GenerateDataKey(ctx, "orders", DataKeyOptions{})
			return err
		},
	} {
		s := &script{outcomes: []outcome{lost, refused, refusal(409, "in_use", false)}}
		err := failed(t, play(t, s, call), ErrConflict)
		equal(t, len(s.requests), 3)
		// What the first attempt may have done stays done.
		equal(t, err.MaybeExecuted, true)
		// There is no documented second for these.
		equal(t, s.pauses(), []time.Duration{250 * time.Millisecond, 500 * time.Millisecond})
	}
}

func TestLostResponseIsNotRepeatedWhereTheCallerMustLook(t *testing.T) {
	for _, call := range []caller{
		updateKey, deleteKey,
		func(ctx context.Context, c *Client) error {
			_, err := c.CheckConnection(ctx, "c")
			return err
		},
		func(ctx context.Context, c *Client) error {
			_, err := c.ApplyDeclared(ctx)
			return err
		},
	} {
		s := &script{outcomes: []outcome{lost}}
		equal(t, failed(t, play(t, s, call), ErrConnectionLost).MaybeExecuted, true)
		equal(t, len(s.requests), 1)
		// Nothing was sent, or the gateway itself says that the request may be repeated.
		for _, again := range []outcome{refused, limited} {
			s = &script{outcomes: []outcome{again}}
			failed(t, play(t, s, call), nil)
			equal(t, len(s.requests), 5)
		}
	}
}

func TestProxyWithoutItsGatewayIsLikeALostResponse(t *testing.T) {
	page := gives(502, "text/html; charset=utf-8", "<html>")
	succeeds(t, play(t, &script{outcomes: []outcome{page, success}}, getKey))
	s := &script{outcomes: []outcome{page}}
	err := failed(t, play(t, s, updateKey), ErrUnexpectedResponse)
	equal(t, []any{len(s.requests), err.MaybeExecuted}, []any{1, true})
	contains(t, err.Detail, "text/html")
	// JSON of a proxy is no problem document either.
	for _, body := range []string{`{"error": "no upstream"}`, `{"code": ""}`, `{"code": 502}`, "[]", "502"} {
		failed(t, play(t, &script{outcomes: []outcome{gives(502, "application/json", body)}}, getKey), ErrUnexpectedResponse)
	}
	s = &script{outcomes: []outcome{gives(404, "text/html", "<html>")}}
	failed(t, play(t, s, getKey), ErrUnexpectedResponse)
	equal(t, len(s.requests), 1)
}

func TestReadinessThatIsNotReady(t *testing.T) {
	var found *Readiness
	readiness := func(ctx context.Context, c *Client) (err error) {
		found, err = c.GetReadiness(ctx)
		return err
	}
	s := &script{outcomes: []outcome{gives(503, "application/json", `{"ready": false, "parts": [{"name": "log", "ready": false, "state": "full"}]}`)}}
	succeeds(t, play(t, s, readiness))
	equal(t, []any{found.Ready, found.Parts[0].State}, []any{false, "full"})
	equal(t, s.headers("Authorization"), []string{""})
	failed(t, play(t, &script{outcomes: []outcome{refusal(503, "not_ready", false)}}, readiness), ErrUnavailable)
	// As when many responses wait to be read.
	failed(t, play(t, &script{outcomes: []outcome{gives(503, "application/json", "")}}, readiness, WithRetries(0)), ErrUnexpectedResponse)
}

func TestRetryIsLogged(t *testing.T) {
	text := new(bytes.Buffer)
	logger := slog.New(slog.NewTextHandler(text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	succeeds(t, play(t, &script{outcomes: []outcome{limited, success}}, getKey, WithLogger(logger)))
	contains(t, text.String(), `level=DEBUG msg="claviger: a call is repeated" operation=getKey code=rate_limited pause=1.25s`)
}

func TestResponseThatIsNotTheDocumentedOne(t *testing.T) {
	for _, body := range []string{"", "[]", "null", `{"name": 1}`, "\xff", strings.Repeat("[", 100_000), `"text"`, "{}", " "} {
		s := &script{outcomes: []outcome{gives(200, "text/html", body)}}
		failed(t, play(t, s, getKey), ErrUnexpectedResponse)
		equal(t, len(s.requests), 1)
	}
	// 200 of a proxy's page is not the success of a deletion, and no metrics.
	deleteToken := func(ctx context.Context, c *Client) error { return c.DeleteToken(ctx, "p", "t") }
	failed(t, play(t, &script{outcomes: []outcome{gives(200, "text/html", "<html>")}}, deleteToken), ErrUnexpectedResponse)
	failed(t, play(t, &script{outcomes: []outcome{gives(200, "application/json", "{}")}}, deleteToken), ErrUnexpectedResponse)
	succeeds(t, play(t, &script{outcomes: []outcome{gives(204, "", "")}}, deleteToken))
	metrics := func(ctx context.Context, c *Client) error {
		_, err := c.GetMetrics(ctx)
		return err
	}
	failed(t, play(t, &script{outcomes: []outcome{gives(200, "text/html", "<html>")}}, metrics), ErrUnexpectedResponse)
	err := failed(t, play(t, &script{outcomes: []outcome{gives(301, "", "", "Location", "https://elsewhere")}}, getKey), ErrUnexpectedResponse)
	contains(t, err.WhatToDo, "Redirects")
}
