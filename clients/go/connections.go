package claviger

import (
	"context"
	"iter"
)

// ConnectionSettings are the settings of a connection to one kind of provider, such as [AWSSettings].
type ConnectionSettings interface {
	provider() ProviderName
}

// OtherSettings are those of a provider that this release of the client has no type for. Give secrets as [Secret], so
// that they do not print.
type OtherSettings struct {
	Provider ProviderName
	Settings map[string]any
}

func (s OtherSettings) provider() ProviderName { return s.Provider }

// CreateConnection creates a connection to the provider whose settings these are.
func (c *Client) CreateConnection(ctx context.Context, name string, settings ConnectionSettings, options CreateConnectionOptions) (*Connection, error) {
	if settings == nil {
		return nil, invalid("a connection has settings")
	}
	var content any = settings
	if other, ok := settings.(OtherSettings); ok {
		content = other.Settings
	}
	r := opCreateConnection.with().withBody(required{{"name", name}, {"provider", settings.provider()}, {"settings", content}}, options)
	return get[Connection](ctx, c, r.withKey(options.IdempotencyKey))
}

// ListConnections iterates over the connections, ordered by name.
func (c *Client) ListConnections(ctx context.Context, options ListOptions) iter.Seq2[*Connection, error] {
	return list[Connection](ctx, c, opListConnections.with(), options)
}

// GetConnection reads a connection, with its login, circuit and health.
func (c *Client) GetConnection(ctx context.Context, connection string) (*Connection, error) {
	return get[Connection](ctx, c, opGetConnection.with(connection))
}

// UpdateConnection changes a connection that is still as its etag says; "*" for any state. Values of Secrets can be a
// [Secret].
func (c *Client) UpdateConnection(ctx context.Context, connection, etag string, options UpdateConnectionOptions) (*Connection, error) {
	r := opUpdateConnection.with(connection).withBody(nil, options)
	r.ifMatch = etag
	return get[Connection](ctx, c, r)
}

// DeleteConnection deletes a connection that no version of a key uses.
func (c *Client) DeleteConnection(ctx context.Context, connection string) error {
	return do(ctx, c, opDeleteConnection.with(connection))
}

// CheckConnection tests each right that the connection needs at its provider. It may log in, which the provider counts.
func (c *Client) CheckConnection(ctx context.Context, connection string) (*CheckResult, error) {
	return get[CheckResult](ctx, c, opCheckConnection.with(connection))
}

// GetConnectionCapabilities reads what the provider supports, and where it is done.
func (c *Client) GetConnectionCapabilities(ctx context.Context, connection string) (*ConnectionCapabilities, error) {
	return get[ConnectionCapabilities](ctx, c, opGetConnectionCapabilities.with(connection))
}

// SeverConnection blocks a connection from the next request on, cached data keys included.
//
// An [ErrRevocationNotDurable] says that it took effect nevertheless.
func (c *Client) SeverConnection(ctx context.Context, connection string) (*Connection, error) {
	return get[Connection](ctx, c, opSeverConnection.with(connection))
}

// RestoreConnection opens a severed connection again, with credentials that are fetched anew.
func (c *Client) RestoreConnection(ctx context.Context, connection string, options RestoreConnectionOptions) (*Connection, error) {
	return get[Connection](ctx, c, opRestoreConnection.with(connection).withKey(options.IdempotencyKey))
}
