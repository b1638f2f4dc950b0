package claviger

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
)

// echo unwraps each wrapped key to itself, and refuses those that say so.
func echo(r *stubRequest, w io.Writer) {
	var body struct{ Items []struct{ Wrapped string } }
	if err := json.Unmarshal(r.body, &body); err != nil {
		panic(err)
	}
	results := []any{}
	for _, item := range body.Items {
		if strings.HasPrefix(item.Wrapped, "bad") {
			results = append(results, map[string]any{"audit_index": "log#7", "error": map[string]any{
				"code": "ciphertext_rejected", "detail": "D.", "title": "T", "type": "t", "status": 422, "request_id": "r", "retryable": false,
			}})
		} else {
			results = append(results, unwrappedWith(map[string]any{"key": item.Wrapped[:min(20, len(item.Wrapped))], "later": true}))
		}
	}
	object(200, map[string]any{"items": results})(r, w)
}

func itemsOf(r *stubRequest) int {
	var body struct{ Items []any }
	if err := json.Unmarshal(r.body, &body); err != nil {
		panic(err)
	}
	return len(body.Items)
}

func TestItemsAreCutByTheirNumber(t *testing.T) {
	s := newStub(t, echo)
	var items []UnwrapItem
	for i := range 2500 {
		name := fmt.Sprintf("n%d", i)
		if i%500 == 7 {
			name = fmt.Sprintf("bad%d", i)
		}
		items = append(items, UnwrapItem{Wrapped: name})
	}
	results := must(connect(t, s.address, WithToken(someToken)).BatchUnwrap(t.Context(), items))(t)
	for i, count := range []int{1000, 1000, 500} {
		equal(t, itemsOf(s.seen()[i]), count)
	}
	equal(t, len(results), 2500)
	for i, result := range results {
		if i%500 == 7 {
			equal(t, []any{result.Error.Code, result.Error.Status, result.AuditIndex, result.Plaintext.IsZero()}, []any{CodeCiphertextRejected, 422, "log#7", true})
			failed(t, result.Error, ErrCiphertextRejected)
		} else {
			equal(t, []any{result.Key, result.Error == nil, string(result.Extra["later"])}, []any{items[i].Wrapped, true, "true"})
		}
	}
}

func partsOf(t *testing.T, of endpoint, items []UnwrapItem) []part {
	t.Helper()
	var parts []part
	for made, err := range cut(of, items) {
		succeeds(t, err)
		equal(t, itemsOf(&stubRequest{body: made.body}), made.items)
		parts = append(parts, made)
	}
	return parts
}

func TestItemsAreCutByTheirBytes(t *testing.T) {
	items := make([]UnwrapItem, 1000)
	for i := range items {
		items[i].Wrapped = strings.Repeat("w", 22<<10)
	}
	parts := partsOf(t, opBatchUnwrap, items)
	equal(t, len(parts), 2)
	equal(t, parts[0].items+parts[1].items, 1000)
	equal(t, len(parts[0].body) <= 16<<20, true)
	// The next item would not have fitted.
	one := len(must(appendValue(nil, reflect.ValueOf(items[0]), false))(t))
	equal(t, len(parts[0].body)+len(",")+one > 16<<20, true)
}

func TestBodyMayBeExactlyAsLargeAsTheLimit(t *testing.T) {
	items := []UnwrapItem{{Wrapped: "a"}, {Wrapped: "b"}, {Wrapped: "c"}, {Wrapped: "d"}}
	size := len(partsOf(t, opBatchUnwrap, items)[0].body)
	for most, counts := range map[int][]int{size: {4}, size - 1: {3, 1}, 10: {1, 1, 1, 1}} {
		// One item that is too large goes out alone, and the gateway says so.
		var found []int
		for _, made := range partsOf(t, endpoint{mostItems: 1000, mostBytes: most}, items) {
			found = append(found, made.items)
		}
		equal(t, found, counts)
	}
}

func TestNoItemsAreNoRequest(t *testing.T) {
	s := newStub(t, echo)
	results := must(connect(t, s.address, WithToken(someToken)).BatchWrap(t.Context(), nil))(t)
	equal(t, []int{len(results), s.count()}, []int{0, 0})
	for made, err := range cut(opBatchWrap, []WrapItem{{Key: "k", Plaintext: NewSecret([]byte{0, 255})}}) {
		succeeds(t, err)
		equal(t, string(made.body), `{"items":[{"key":"k","plaintext":"AP8="}]}`)
	}
}

func TestRequestThatFailsAsAWhole(t *testing.T) {
	s := newStub(t, echo, problem("rate_limited", 429, map[string]any{"retryable": true}))
	client := connect(t, s.address, WithToken(someToken), WithRetries(0))
	items := make([]UnwrapItem, 1500)
	for i := range items {
		items[i].Wrapped = fmt.Sprintf("n%d", i)
	}
	results, err := client.BatchUnwrap(t.Context(), items)
	failed(t, err, ErrRateLimited)
	equal(t, []any{len(results), results[999].Key}, []any{1000, "n999"})
	// Results would be taken for those of other items.
	s.set(object(200, map[string]any{"items": []any{unwrappedWith(nil)}}))
	results, err = client.BatchUnwrap(t.Context(), items[:2])
	contains(t, failed(t, err, ErrUnexpectedResponse).Detail, "not one result for each item")
	equal(t, len(results), 0)
	s.set(object(200, map[string]any{"items": []any{map[string]any{"key": "n", "plaintext": "", "error": nil}}}))
	_, err = client.BatchUnwrap(t.Context(), items[:1])
	contains(t, failed(t, err, ErrUnexpectedResponse).Detail, "/items/0/version is not there")
	_, err = client.BatchUnwrap(t.Context(), []UnwrapItem{{Wrapped: "a", Context: map[string]string{"\xff": ""}}})
	isInvalid(t, err)
}
