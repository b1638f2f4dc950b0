package claviger

import (
	"context"
	"iter"
)

// page is a page of a list.
type page[T any] struct {
	Items         []*T   `json:"items"`
	NextPageToken string `json:"next_page_token,omitzero"`
	Meta          Meta   `json:"-"`
}

// list iterates over all pages of a list. Nothing is fetched before it is needed. After an error the iteration ends.
func list[T any](ctx context.Context, c *Client, r request, options any) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		query := encodeQuery(options)
		for {
			r.query = query
			found, err := get[page[T]](ctx, c, r)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, item := range found.Items {
				if !yield(item, nil) {
					return
				}
			}
			if found.NextPageToken == "" {
				return
			}
			query.Set("page_token", found.NextPageToken)
		}
	}
}
