package claviger

import "context"

// GenerateDataKey generates a data key. Store Wrapped with what you encrypt, and forget Plaintext.
//
// Context binds a wrapped key to pairs of text, which an unwrap must repeat exactly. It is not secret.
func (c *Client) GenerateDataKey(ctx context.Context, key string, options DataKeyOptions) (*DataKey, error) {
	return get[DataKey](ctx, c, opGenerateDataKey.with(key).withBody(nil, options))
}

// Wrap wraps 1 to 4096 bytes.
func (c *Client) Wrap(ctx context.Context, key string, plaintext Secret, options WrapOptions) (*WrapResult, error) {
	return get[WrapResult](ctx, c, opWrap.with(key).withBody(required{{"plaintext", plaintext}}, options))
}

// Unwrap unwraps with the key that the wrapped key names.
func (c *Client) Unwrap(ctx context.Context, wrapped string, options UnwrapOptions) (*UnwrapResult, error) {
	return get[UnwrapResult](ctx, c, opUnwrap.with().withBody(required{{"wrapped", wrapped}}, options))
}

// UnwrapWithKey unwraps with this key only: what another key wrapped is refused with [ErrCiphertextRejected].
func (c *Client) UnwrapWithKey(ctx context.Context, key, wrapped string, options UnwrapOptions) (*UnwrapResult, error) {
	return get[UnwrapResult](ctx, c, opUnwrapWithKey.with(key).withBody(required{{"wrapped", wrapped}}, options))
}

// Rewrap wraps the same data key with the key's newest version, or with another key.
func (c *Client) Rewrap(ctx context.Context, key, wrapped string, options RewrapOptions) (*RewrapResult, error) {
	return get[RewrapResult](ctx, c, opRewrap.with(key).withBody(required{{"wrapped", wrapped}}, options))
}

// Inspect reads what a wrapped key says about itself. No provider is called.
func (c *Client) Inspect(ctx context.Context, wrapped string, options UnwrapOptions) (*InspectResult, error) {
	return get[InspectResult](ctx, c, opInspect.with().withBody(required{{"wrapped", wrapped}}, options))
}

// BatchGenerateDataKeys generates data keys. See [Client.BatchUnwrap].
func (c *Client) BatchGenerateDataKeys(ctx context.Context, items []GenerateItem) ([]GenerateItemResult, error) {
	return carryOutBatch[GenerateItem, GenerateItemResult](ctx, c, opBatchGenerateDataKeys, items)
}

// BatchWrap wraps plaintexts. See [Client.BatchUnwrap].
func (c *Client) BatchWrap(ctx context.Context, items []WrapItem) ([]WrapItemResult, error) {
	return carryOutBatch[WrapItem, WrapItemResult](ctx, c, opBatchWrap, items)
}

// BatchUnwrap unwraps any number of wrapped keys, and returns the results in the same order. Of an item that failed,
// Error is not nil.
//
// Items are sent in as many requests as needed, one after the other, each with the client's time. If one of these fails
// as a whole, its error is returned, together with the results of those before it.
func (c *Client) BatchUnwrap(ctx context.Context, items []UnwrapItem) ([]UnwrapItemResult, error) {
	return carryOutBatch[UnwrapItem, UnwrapItemResult](ctx, c, opBatchUnwrap, items)
}

// BatchRewrap rewraps wrapped keys. See [Client.BatchUnwrap].
func (c *Client) BatchRewrap(ctx context.Context, items []RewrapItem) ([]RewrapItemResult, error) {
	return carryOutBatch[RewrapItem, RewrapItemResult](ctx, c, opBatchRewrap, items)
}
