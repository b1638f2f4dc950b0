package claviger

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

// hidden fails the test if the text has a secret in any form.
func hidden(t *testing.T, text string, secrets ...[]byte) {
	t.Helper()
	for _, secret := range append(secrets, []byte(content)) {
		for _, form := range []string{
			string(secret), hex.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret), strings.Trim(fmt.Sprint(secret), "[]"),
			strings.Trim(fmt.Sprintf("%#v", secret), "[]byte{}"),
		} {
			if strings.Contains(text, form) {
				t.Fatalf("%q has a secret", text)
			}
		}
	}
}

type holder struct {
	secret Secret
	Public Secret
	inner  map[string]Secret
	list   []any
}

func TestSecretDoesNotPrint(t *testing.T) {
	secret := NewSecret([]byte(content))
	for _, value := range []any{
		secret, &secret, []Secret{secret}, map[string]Secret{"a": secret}, [1]Secret{secret},
		holder{secret, secret, map[string]Secret{"a": secret}, []any{secret}}, &holder{secret: secret},
		DataKey{Plaintext: secret}, WrapItem{Plaintext: secret}, VaultAuth{Token: secret}, &UnwrapItemResult{Plaintext: secret},
		OtherSettings{Settings: map[string]any{"token": secret}}, fixedToken{secret},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%08b", "%U", "%t", "%p", "%w"} {
			hidden(t, fmt.Sprintf(verb, value))
		}
		hidden(t, fmt.Sprint(value))
		for _, handler := range []func(*bytes.Buffer) slog.Handler{
			func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			text := new(bytes.Buffer)
			slog.New(handler(text)).Info("message", "value", value)
			hidden(t, text.String())
		}
	}
	equal(t, fmt.Sprintf("%v %s", secret, DataKey{Plaintext: secret}.Plaintext), "Secret(...) Secret(...)")
}

func TestSecretIsNotEncoded(t *testing.T) {
	secret := NewSecret([]byte(content))
	for _, value := range []any{secret, DataKey{Plaintext: secret}, map[string]any{"a": secret}} {
		text, err := json.Marshal(value)
		if err == nil {
			t.Fatalf("encoded to %s", text)
		}
		contains(t, err.Error(), "Expose")
		hidden(t, err.Error())
		if err := gob.NewEncoder(new(bytes.Buffer)).Encode(value); err == nil {
			t.Fatal("encoded by gob")
		}
	}
	if err := json.Unmarshal([]byte(`"c2VjcmV0"`), &secret); err == nil {
		t.Fatal("decoded")
	}
}

// What prints by reflection, such as a library for tests, sees no content either.
func TestSecretHasNothingForReflection(t *testing.T) {
	field := reflect.ValueOf(NewSecret([]byte(content))).Field(0)
	equal(t, field.Kind(), reflect.Func)
	equal(t, reflect.TypeFor[Secret]().NumField(), 1)
	if reflect.TypeFor[Secret]().Comparable() {
		t.Fatal("comparable, and so a key of a map whose comparison takes different times")
	}
}

func TestSecretIsExposedComparedAndDestroyed(t *testing.T) {
	given := []byte(content)
	secret := NewSecret(given)
	given[0] = 'X'
	equal(t, string(secret.Expose()), content)
	equal(t, secret.Len(), len(content))
	equal(t, secret.Equal(NewSecret([]byte(content))), true)
	equal(t, secret.Equal(NewSecret([]byte("secret-contend"))), false)
	equal(t, secret.Equal(NewSecret([]byte("secret"))), false)

	equal(t, Secret{}.IsZero(), true)
	equal(t, NewSecret(nil).IsZero(), false)
	equal(t, Secret{}.Equal(NewSecret(nil)), false)
	equal(t, Secret{}.Equal(Secret{}), true)
	equal(t, Secret{}.Expose() == nil, true)
	equal(t, NewSecret([]byte{}).Len(), 0)

	bytes, copied := secret.Expose(), secret
	secret.Destroy()
	equal(t, bytes, make([]byte, len(content)))
	equal(t, copied.Expose() == nil, true)
	equal(t, copied.Equal(NewSecret([]byte(content))), false)
	secret.Destroy()
	Secret{}.Destroy()
}

func TestExtraDoesNotPrint(t *testing.T) {
	s := newStub(t, object(200, keyWith(map[string]any{"later_secret": content})))
	key := must(connect(t, s.address, WithToken(someToken)).GetKey(t.Context(), "orders"))(t)
	equal(t, string(key.Extra["later_secret"]), `"`+content+`"`)
	hidden(t, fmt.Sprintf("%v %+v %#v", key, key, key))
	contains(t, fmt.Sprintf("%+v", key), "Extra(1 members)")
}

func TestNothingSecretIsInAnError(t *testing.T) {
	for _, given := range []answer{
		object(200, unwrappedWith(map[string]any{"version": content})),
		object(200, unwrappedWith(map[string]any{"plaintext": "c2VjcmV0LWNvbnRlbnQ"})),
		object(200, unwrappedWith(map[string]any{"plaintext": []string{content}})),
		responds(200, "application/json", `{"plaintext": "c2VjcmV0LWNvbnRlbnQ=`),
		respondsWith(200, "application/json", string(marshal(unwrappedWith(nil))), 4000),
		responds(200, "text/html", "<html>"+content),
		raw("HTTP/1.1 200 " + content + "\r\nA" + content + "\r\n\r\n"),
		nil,
	} {
		s := newStub(t, given)
		client := connect(t, s.address, WithToken(someToken), WithRetries(0))
		_, err := client.Unwrap(t.Context(), "clv1.x", UnwrapOptions{})
		failed(t, err, ErrTransport)
		hidden(t, fmt.Sprintf("%v %+v %#v", err, err, err), []byte(someToken), []byte(someToken[17:]))
		hidden(t, fmt.Sprintf("%v %+v %#v", client, client, client), []byte(someToken), []byte(someToken[17:]))
	}
}

func TestNothingSecretIsLogged(t *testing.T) {
	text := new(bytes.Buffer)
	logger := slog.New(slog.NewTextHandler(text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := newStub(t, problem("not_ready", 503, map[string]any{"retryable": true, "detail": content}), object(200, unwrappedWith(nil)))
	client := connect(t, s.address, WithToken(someToken), WithLogger(logger))
	client.jitter = noJitter
	_, err := client.Unwrap(t.Context(), "clv1.x", UnwrapOptions{})
	succeeds(t, err)
	contains(t, text.String(), "operation=unwrap code=not_ready pause=1s")
	hidden(t, text.String(), []byte(someToken))
}
