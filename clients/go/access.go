package claviger

import (
	"context"
	"iter"
)

// WhoAmI reads the client's own token, and the tenant that its requests act for.
func (c *Client) WhoAmI(ctx context.Context) (*Caller, error) {
	return get[Caller](ctx, c, opWhoAmI.with())
}

// CreateTenant creates a tenant. For platform operators.
func (c *Client) CreateTenant(ctx context.Context, name string, options CreateTenantOptions) (*Tenant, error) {
	r := opCreateTenant.with().withBody(required{{"name", name}}, options)
	return get[Tenant](ctx, c, r.withKey(options.IdempotencyKey))
}

// ListTenants iterates over the tenants, ordered by name. For platform operators.
func (c *Client) ListTenants(ctx context.Context, options ListOptions) iter.Seq2[*Tenant, error] {
	return list[Tenant](ctx, c, opListTenants.with(), options)
}

// GetTenant reads a tenant. For platform operators.
func (c *Client) GetTenant(ctx context.Context, tenant string) (*Tenant, error) {
	return get[Tenant](ctx, c, opGetTenant.with(tenant))
}

// SuspendTenant refuses every request of the tenant's credentials from the next one on. For platform operators.
//
// An [ErrRevocationNotDurable] says that it took effect nevertheless.
func (c *Client) SuspendTenant(ctx context.Context, tenant string) (*Tenant, error) {
	return get[Tenant](ctx, c, opSuspendTenant.with(tenant))
}

// ResumeTenant lifts a suspension. For platform operators.
func (c *Client) ResumeTenant(ctx context.Context, tenant string, options ResumeTenantOptions) (*Tenant, error) {
	return get[Tenant](ctx, c, opResumeTenant.with(tenant).withKey(options.IdempotencyKey))
}

// CreatePrincipal creates a principal.
func (c *Client) CreatePrincipal(ctx context.Context, name string, options CreatePrincipalOptions) (*Principal, error) {
	r := opCreatePrincipal.with().withBody(required{{"name", name}}, options)
	return get[Principal](ctx, c, r.withKey(options.IdempotencyKey))
}

// ListPrincipals iterates over the principals, ordered by name.
func (c *Client) ListPrincipals(ctx context.Context, options ListOptions) iter.Seq2[*Principal, error] {
	return list[Principal](ctx, c, opListPrincipals.with(), options)
}

// GetPrincipal reads a principal.
func (c *Client) GetPrincipal(ctx context.Context, principal string) (*Principal, error) {
	return get[Principal](ctx, c, opGetPrincipal.with(principal))
}

// DeletePrincipal deletes a principal, which ends its tokens and all below them at the next request.
func (c *Client) DeletePrincipal(ctx context.Context, principal string) error {
	return do(ctx, c, opDeletePrincipal.with(principal))
}

// CreateToken issues a token, whose text is in Token of this result and nowhere else.
//
// If the response is lost, the repetition returns an [ErrAlreadyCreated]: revoke the token of its CreatedID, and
// issue another one.
func (c *Client) CreateToken(ctx context.Context, principal string, operations []Operation, options CreateTokenOptions) (*CreatedToken, error) {
	r := opCreateToken.with(principal).withBody(required{{"operations", operations}}, options)
	return get[CreatedToken](ctx, c, r.withKey(options.IdempotencyKey))
}

// ListTokens iterates over the tokens of a principal.
func (c *Client) ListTokens(ctx context.Context, principal string, options ListOptions) iter.Seq2[*Token, error] {
	return list[Token](ctx, c, opListTokens.with(principal), options)
}

// DeleteToken revokes the token of this id, from the next request on.
func (c *Client) DeleteToken(ctx context.Context, principal, token string) error {
	return do(ctx, c, opDeleteToken.with(principal, token))
}
