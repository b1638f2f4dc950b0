package claviger

import (
	"context"
	"iter"
)

// CreateKey creates a key at the connection's provider, or adopts the key that ProviderKey names there.
func (c *Client) CreateKey(ctx context.Context, name, connection string, options CreateKeyOptions) (*Key, error) {
	r := opCreateKey.with().withBody(required{{"name", name}, {"connection", connection}}, options)
	return get[Key](ctx, c, r.withKey(options.IdempotencyKey))
}

// ListKeys iterates over the keys, ordered by name.
func (c *Client) ListKeys(ctx context.Context, options ListKeysOptions) iter.Seq2[*Key, error] {
	return list[Key](ctx, c, opListKeys.with(), options)
}

// GetKey reads a key.
func (c *Client) GetKey(ctx context.Context, key string) (*Key, error) {
	return get[Key](ctx, c, opGetKey.with(key))
}

// UpdateKey changes a key that is still as its etag says; "*" for any state.
//
// To allow export, and to turn the cache on in external custody, needs a justification ([WithJustification]).
func (c *Client) UpdateKey(ctx context.Context, key, etag string, options UpdateKeyOptions) (*Key, error) {
	r := opUpdateKey.with(key).withBody(nil, options)
	r.ifMatch = etag
	return get[Key](ctx, c, r)
}

// DeleteKey detaches a key: nothing changes at the provider, and the id stays reserved.
func (c *Client) DeleteKey(ctx context.Context, key string) error {
	return do(ctx, c, opDeleteKey.with(key))
}

// ListKeyVersions iterates over the versions of a key, oldest first.
func (c *Client) ListKeyVersions(ctx context.Context, key string, options ListOptions) iter.Seq2[*KeyVersion, error] {
	return list[KeyVersion](ctx, c, opListKeyVersions.with(key), options)
}

// RotateKey creates a new primary version. With a connection, provider key or spec, the key moves there.
//
// While the provider has not finished, Rotation.State of the result is RotationStateInProgress.
func (c *Client) RotateKey(ctx context.Context, key string, options RotateKeyOptions) (*Key, error) {
	return get[Key](ctx, c, opRotateKey.with(key).withBody(nil, options).withKey(options.IdempotencyKey))
}

// DisableKey disables a key from the next request on; with AtProvider at its providers, too.
//
// Read AtProvider.Result of the key then: it is disabled here even if no provider could be reached. An
// [ErrRevocationNotDurable] says that the revocation took effect nevertheless.
func (c *Client) DisableKey(ctx context.Context, key string, options DisableKeyOptions) (*Key, error) {
	return get[Key](ctx, c, opDisableKey.with(key).withBody(nil, options))
}

// EnableKey enables a key; with AtProvider at its providers first.
func (c *Client) EnableKey(ctx context.Context, key string, options EnableKeyOptions) (*Key, error) {
	return get[Key](ctx, c, opEnableKey.with(key).withBody(nil, options).withKey(options.IdempotencyKey))
}
