package claviger

import (
	"context"
	"iter"
	"reflect"
)

// batch is what a batch returns.
type batch[R any] struct {
	Items []R  `json:"items"`
	Meta  Meta `json:"-"`
}

// carryOutBatch carries out the requests of a batch one after the other, and joins their results in order. If one of
// them fails as a whole, the results are those of the requests before it.
func carryOutBatch[I, R any](ctx context.Context, c *Client, of endpoint, items []I) ([]R, error) {
	results := make([]R, 0, len(items))
	for part, err := range cut(of, items) {
		if err != nil {
			return results, err
		}
		r := of.with()
		r.body = part.body
		found, err := get[batch[R]](ctx, c, r)
		if err != nil {
			return results, err
		}
		if len(found.Items) != part.items {
			// Results would be taken for those of other items.
			return results, &Error{
				Code:          CodeUnexpectedResponse,
				Title:         "Unexpected response",
				Detail:        "The response to a batch has not one result for each item.",
				WhatToDo:      "Check that this release of the client goes with the gateway.",
				RequestID:     found.Meta.RequestID,
				AuditIndex:    found.Meta.AuditIndex,
				MaybeExecuted: true,
			}
		}
		results = append(results, found.Items...)
	}
	return results, nil
}

// part is the body of one of a batch's requests, and the number of items in it.
type part struct {
	body  []byte
	items int
}

// cut makes the bodies of as few requests as the API's bounds on items and bytes allow. An item that is too large by
// itself has a request of its own, so that the gateway says so.
func cut[I any](of endpoint, items []I) iter.Seq2[part, error] {
	const begin, end = `{"items":[`, `]}`
	return func(yield func(part, error) bool) {
		made := part{body: []byte(begin)}
		for _, item := range items {
			text, err := appendValue(nil, reflect.ValueOf(item), false)
			if err != nil {
				yield(part{}, err)
				return
			}
			if made.items > 0 && (made.items == of.mostItems || len(made.body)+len(",")+len(text)+len(end) > of.mostBytes) {
				made.body = append(made.body, end...)
				if !yield(made, nil) {
					return
				}
				made = part{body: []byte(begin)}
			}
			if made.items > 0 {
				made.body = append(made.body, ',')
			}
			made.body = append(made.body, text...)
			made.items++
		}
		if made.items > 0 {
			made.body = append(made.body, end...)
			yield(made, nil)
		}
	}
}
