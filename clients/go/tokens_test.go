package claviger

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const someJWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"

func write(t testing.TB, path, text string) {
	t.Helper()
	succeeds(t, os.WriteFile(path, []byte(text), 0o600))
}

func TestReplacedTokenFileIsUsedFromTheNextCallOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.token")
	s := newStub(t, object(200, keyWith(nil)))
	client := connect(t, s.address, WithTokenFile(path))
	write(t, path, someToken+"\n")
	must(client.GetKey(t.Context(), "orders"))(t)
	before := must(os.Stat(path))(t)
	write(t, path, otherToken+"\n")
	// Of the same size and, as on a file system with a coarse clock, of the same time.
	succeeds(t, os.Chtimes(path, before.ModTime(), before.ModTime()))
	must(client.GetKey(t.Context(), "orders"))(t)
	write(t, path, " "+someJWT+" ")
	must(client.GetKey(t.Context(), "orders"))(t)
	for i, token := range []string{someToken, otherToken, someJWT} {
		equal(t, s.seen()[i].token(), token)
	}
}

func TestTokenFileThatIsBeingReplacedIsWaitedFor(t *testing.T) {
	for _, unfinished := range []string{"", someToken[:40], "\n", "-"} {
		path := filepath.Join(t.TempDir(), "app.token")
		if unfinished != "-" {
			write(t, path, unfinished)
		}
		s := &script{outcomes: []outcome{success}}
		succeeds(t, playOn(t, s, func(ctx context.Context, c *Client) error {
			time.AfterFunc(120*time.Millisecond, func() { write(t, path, someToken) })
			return getKey(ctx, c)
		}, WithTokenFile(path)))
		equal(t, s.headers("Authorization"), []string{"Bearer " + someToken})
	}
}

func TestTokenFileIsWaitedForOnlySoLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.token")
	s := &script{outcomes: []outcome{success}}
	var took time.Duration
	err := failed(t, playOn(t, s, func(ctx context.Context, c *Client) error {
		begin := time.Now()
		defer func() { took = time.Since(begin) }()
		return getKey(ctx, c)
	}, WithTokenFile(path)), ErrToken)
	equal(t, []any{took, len(s.requests), err.Retryable}, []any{500 * time.Millisecond, 0, true})
	equal(t, errors.Is(err, fs.ErrNotExist), true)
}

// A deadline that passes during a pause is no end by the caller. The clock is one that jumps, as of a machine that is busy.
func TestPauseThatIsTooLong(t *testing.T) {
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	client := connect(t, "http://127.0.0.1:1", WithTokenFile(filepath.Join(t.TempDir(), "app.token")))
	_, err := client.credential(late, time.Now().Add(time.Hour))
	failed(t, err, ErrToken)
	client.tokens = fixedToken{NewSecret([]byte(someToken))}
	failed(t, client.attempts(late, time.Now().Add(time.Hour), opGetKey.with("orders"), "/v1/keys/orders", new(Key)), ErrGatewayUnreachable)
}

func TestTokenThatWasReplacedAfterItWasReadIsUsedAtOnce(t *testing.T) {
	tokens := func(list ...string) Option {
		return WithTokenFunc(func(context.Context) (string, error) {
			token := list[0]
			list = list[min(1, len(list)-1):]
			return token, nil
		})
	}
	s := &script{outcomes: []outcome{unauthenticated, success}}
	succeeds(t, playOn(t, s, getKey, tokens(someToken, otherToken)))
	equal(t, s.headers("Authorization"), []string{"Bearer " + someToken, "Bearer " + otherToken})
	equal(t, s.pauses(), []time.Duration{0})
	// A later one may be replaced, too, when the one before it was accepted.
	s = &script{outcomes: []outcome{unauthenticated, limited, unauthenticated, success}}
	succeeds(t, playOn(t, s, getKey, tokens(someToken, otherToken, otherToken, someJWT)))
	equal(t, len(s.requests), 4)
	// A rejected token is not sent twice.
	for _, given := range []struct {
		options Option
		sent    int
	}{{tokens(someToken), 1}, {tokens(someToken, otherToken, someJWT), 2}, {WithToken(someToken), 1}} {
		s = &script{outcomes: []outcome{unauthenticated}}
		failed(t, playOn(t, s, getKey, given.options), ErrUnauthenticated)
		equal(t, len(s.requests), given.sent)
	}
}

func TestFileWithoutAToken(t *testing.T) {
	s := newStub(t, object(200, keyWith(nil)))
	path := filepath.Join(t.TempDir(), "app.token")
	client := connect(t, s.address, WithTokenFile(path), WithTimeout(200*time.Millisecond))
	check := func(reason string) {
		t.Helper()
		_, err := client.GetKey(t.Context(), "orders")
		found := failed(t, err, ErrToken)
		contains(t, found.Detail, path)
		contains(t, found.Detail, reason)
		contains(t, found.WhatToDo, "Write the token to the file")
		equal(t, []any{found.Code, found.Status, found.MaybeExecuted}, []any{CodeTokenUnusable, 0, false})
		hidden(t, err.Error(), []byte(someToken[:50]))
	}
	check("no such file")
	for _, text := range []string{"", "two words", "\xff\xfe", someToken[:50], strings.Repeat("x", 20_000)} {
		write(t, path, text)
		check("not whole")
	}
	equal(t, s.count(), 0)
}

func TestFunctionIsCalledForEachRequest(t *testing.T) {
	s := newStub(t, object(200, keyWith(nil)))
	tokens := []string{someToken, someJWT + "\n"}
	client := connect(t, s.address, WithTokenFunc(func(context.Context) (string, error) {
		token := tokens[0]
		tokens = tokens[1:]
		return token, nil
	}))
	must(client.GetKey(t.Context(), "orders"))(t)
	must(client.GetKey(t.Context(), "orders"))(t)
	equal(t, []string{s.seen()[0].token(), s.seen()[1].token()}, []string{someToken, someJWT})
}

func TestErrorOfAFunctionIsKept(t *testing.T) {
	none := errors.New("no identity")
	client := connect(t, "http://localhost", WithTokenFunc(func(context.Context) (string, error) { return "", none }))
	_, err := client.GetKey(t.Context(), "orders")
	failed(t, err, ErrToken)
	failed(t, err, none)
	client = connect(t, "http://localhost", WithTokenFunc(func(context.Context) (string, error) { return "two\nlines", nil }))
	_, err = client.GetKey(t.Context(), "orders")
	hidden(t, failed(t, err, ErrToken).Error(), []byte("two"))
	// It does not hide that an attempt before it may have been carried out.
	calls := 0
	again := failed(t, playOn(t, &script{outcomes: []outcome{lost}}, createKey, WithTokenFunc(func(context.Context) (string, error) {
		if calls++; calls > 1 {
			return "", none
		}
		return someToken, nil
	})), none)
	equal(t, []any{calls, again.MaybeExecuted}, []any{2, true})
}

func TestClientHasOneSourceOfTokens(t *testing.T) {
	for _, options := range [][]Option{nil, {WithToken(someToken), WithTokenFile("x")}} {
		_, err := New("http://localhost", options...)
		if !errors.Is(err, ErrInvalidArgument) {
			t.Fatal(err)
		}
	}
	_, err := New("http://localhost", WithToken(""))
	failed(t, err, ErrToken)
}
