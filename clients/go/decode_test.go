package claviger

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"
)

func decoded[T any](t *testing.T, text string) (T, error) {
	t.Helper()
	if !json.Valid([]byte(text)) {
		t.Fatalf("%s is no JSON", text)
	}
	var made T
	err := decode([]byte(text), &made)
	return made, err
}

func TestMembersAreFoundInAnyForm(t *testing.T) {
	for _, text := range []string{
		`{"key":"a","version":1,"wrapped":"b"}`,
		" \n{ \t\"key\" :\r\n \"a\" ,\"version\":1 , \"wrapped\" : \"b\" , \"later\" : [ { \"a\" : \"]}\\\"\" } , [] , null ] } \n",
		`{"\u006bey":"\u0061","version":1,"wrapped":"b","later":{"deep":[[[{"key":"x"}]]],"":""}}`,
		`{"later":-1.5e3,"wrapped":"b","version":1,"key":"a","n":true,"o":false,"p":null,"q":"\\"}`,
		`{"key":"a","version":1,"wrapped":"b","plaintext":null}`,
	} {
		made, err := decoded[DataKey](t, text)
		succeeds(t, err)
		equal(t, []any{made.Key, made.Version, made.Wrapped, made.Plaintext.IsZero()}, []any{"a", 1, "b", true})
	}
	made, err := decoded[DataKey](t, ` {"key":"a","version":1,"wrapped":"b", "later" : [ 1, {"a": "\""} ] , "KEY": 2}`)
	succeeds(t, err)
	equal(t, made.Extra, Extra{"later": json.RawMessage(`[ 1, {"a": "\""} ]`), "KEY": json.RawMessage("2")})
}

func TestMembersOfTheWrongType(t *testing.T) {
	for text, expected := range map[string]string{
		`[]`:                                                          "/ is not an object",
		`null`:                                                        "/ is not an object",
		`{"key":"a","version":1}`:                                     "/wrapped is not there",
		`{"Key":"a","version":1,"wrapped":"b"}`:                       "/key is not there",
		`{"key":null,"version":1,"wrapped":"b"}`:                      "/key is not there",
		`{"key":1,"version":1,"wrapped":"b"}`:                         "/key is not text",
		`{"key":"a","version":1.0,"wrapped":"b"}`:                     "/version is not an integer",
		`{"key":"a","version":1e3,"wrapped":"b"}`:                     "/version is not an integer",
		`{"key":"a","version":"1","wrapped":"b"}`:                     "/version is not an integer",
		`{"key":"a","version":99999999999999999999,"wrapped":"b"}`:    "/version is not an integer",
		`{"key":"a","version":1,"wrapped":"b","plaintext":1}`:         "/plaintext is not text",
		`{"key":"a","version":1,"wrapped":"b","plaintext":"YQ"}`:      "/plaintext is not standard base64",
		`{"key":"a","version":1,"wrapped":"b","plaintext":"Y\nQ=="}`:  "/plaintext is not standard base64",
		`{"key":"a","version":1,"wrapped":"b","plaintext":"_w=="}`:    "/plaintext is not standard base64",
		`{"key":"a","version":1,"wrapped":"b","plaintext":"\u00e9="}`: "/plaintext is not standard base64",
	} {
		_, err := decoded[DataKey](t, text)
		var found *mismatch
		if !errors.As(err, &found) || err.Error() != expected {
			t.Fatalf("%s: %v, not %s", text, err, expected)
		}
	}
	_, err := decoded[UnwrapResult](t, `{"key":"a","version":1,"plaintext":null,"cached":false}`)
	equal(t, fmt.Sprint(err), "/plaintext is not there")
	_, err = decoded[Caller](t, `{"operations":["a",1]}`)
	equal(t, err != nil, true)
}

func TestSecretsAreDecoded(t *testing.T) {
	made, err := decoded[UnwrapResult](t, `{"key":"a","version":1,"plaintext":"\/+8=","cached":true}`)
	succeeds(t, err)
	equal(t, made.Plaintext.Expose(), []byte{0xff, 0xef})
	text := []byte(`{"key":"a","version":1,"plaintext":"c2VjcmV0LWNvbnRlbnQ=","cached":true}`)
	succeeds(t, decode(text, &made))
	// The response's text is overwritten, and the result stays.
	clear(text)
	equal(t, string(made.Plaintext.Expose()), content)
	equal(t, made.Key, "a")
}

func TestTimesAndDurations(t *testing.T) {
	type times struct {
		At  time.Time     `json:"at,omitzero"`
		For time.Duration `json:"for,omitzero"`
	}
	for text, expected := range map[string]times{
		`{"at":"2026-11-23T15:04:05.000001Z"}`: {At: time.Date(2026, 11, 23, 15, 4, 5, 1000, time.UTC)},
		`{"at":"2026-11-23T15:04:05+00:00"}`:   {At: time.Date(2026, 11, 23, 15, 4, 5, 0, time.UTC)},
		`{"at":null,"for":"800ms"}`:            {For: 800 * time.Millisecond},
		`{"for":"90d"}`:                        {For: 90 * 24 * time.Hour},
		`{"for":"15m"}`:                        {For: 15 * time.Minute},
		`{"for":"999999999999d"}`:              {For: math.MaxInt64},
	} {
		made, err := decoded[times](t, text)
		succeeds(t, err)
		equal(t, made, expected)
	}
	for _, text := range []string{
		`{"at":"2026-11-23T15:04:05+01:00"}`, `{"at":"2026-11-23"}`, `{"at":1}`, `{"at":""}`, `{"for":"1w"}`, `{"for":"m"}`, `{"for":"-1s"}`,
		`{"for":"1.5s"}`, `{"for":1}`, `{"for":""}`, `{"for":"1"}`, `{"for":"+1s"}`, `{"for":"99999999999999999999s"}`,
	} {
		if made, err := decoded[times](t, text); err == nil {
			t.Fatalf("%s is %v", text, made)
		}
	}
}

func TestWhatIsSentIsWhatCameIn(t *testing.T) {
	for _, text := range []string{
		`{}`, `{"enabled":false,"max_age":"60000ms","max_idle":"30000ms","max_uses":1000}`, `{"enabled":true,"later":{"a":[1]}}`,
	} {
		made, err := decoded[CacheRules](t, text)
		succeeds(t, err)
		equal(t, string(must(appendValue(nil, reflect.ValueOf(made), false))(t)), text)
	}
}

func TestWhatIsLeftOut(t *testing.T) {
	for text, options := range map[string]any{
		`{}`: UpdateKeyOptions{},
		`{"labels":{},"cache":{},"allow_export":false}`:             UpdateKeyOptions{Labels: map[string]string{}, Cache: &CacheRules{}, AllowExport: Pointer(false)},
		`{"settings":{"ca":null,"proxy":"p"}}`:                      UpdateConnectionOptions{Settings: &NetworkSettings{CA: Remove(), Proxy: SetTo("p")}},
		`{"plaintext":false}`:                                       DataKeyOptions{Plaintext: Pointer(false)},
		`{"context":{"a":"\"\u003c","b":"é"}}`:                      UnwrapOptions{Context: map[string]string{"b": "é", "a": "\"<"}},
		`{"expires_in":"7776000000ms"}`:                             CreateTokenOptions{ExpiresIn: 90 * 24 * time.Hour, IdempotencyKey: "not in the body"},
		`{"secrets":{"token":"t"},"timeouts":{"attempt":"2000ms"}}`: UpdateConnectionOptions{Secrets: map[string]any{"token": NewSecret([]byte("t"))}, Timeouts: &TimeoutRules{Attempt: 2 * time.Second}},
	} {
		var is, expected any
		succeeds(t, json.Unmarshal(must(encodeObject(nil, options))(t), &is))
		succeeds(t, json.Unmarshal([]byte(text), &expected))
		equal(t, is, expected)
	}
	equal(t, encodeQuery(ListKeysOptions{PageSize: 2, State: KeyStateFilterDisabled, Label: "a=b&c"}).Encode(), "label=a%3Db%26c&page_size=2&state=disabled")
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"key":"a","version":1,"wrapped":"b","later":[{"a":"\""},-1e3,null,true]}`))
	f.Add([]byte(` [ ] `))
	f.Fuzz(func(t *testing.T, text []byte) {
		if !json.Valid(text) {
			return
		}
		// The members are those that the standard library finds, where it finds an object.
		var expected map[string]json.RawMessage
		body := text[skipSpace(text, 0):]
		if body[0] != '{' || json.Unmarshal(text, &expected) != nil {
			_ = decode(body, new(DataKey))
			return
		}
		found := map[string]json.RawMessage{}
		for name, value := range eachMember(body) {
			found[name] = slices.Clone(value)
		}
		if !reflect.DeepEqual(found, expected) {
			t.Fatalf("%q: %q, not %q", text, found, expected)
		}
		_, _ = decode(body, new(DataKey)), decode(body, new(Key))
	})
}
