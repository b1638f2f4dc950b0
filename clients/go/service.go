package claviger

import (
	"context"
	"encoding/json"
)

// PlanDeclared compares what the gateway's configuration declares with what there is. For platform operators.
func (c *Client) PlanDeclared(ctx context.Context) (*DeclaredReport, error) {
	return get[DeclaredReport](ctx, c, opPlanDeclared.with())
}

// ApplyDeclared creates what the gateway's configuration declares. For platform operators.
func (c *Client) ApplyDeclared(ctx context.Context) (*DeclaredReport, error) {
	return get[DeclaredReport](ctx, c, opApplyDeclared.with())
}

// ReleaseDeclared gives an object that is no longer declared to its tenant. For platform operators.
func (c *Client) ReleaseDeclared(ctx context.Context, kind ReleasableKind, tenant, name string) error {
	return do(ctx, c, opReleaseDeclared.with().withBody(required{{"kind", kind}, {"tenant", tenant}, {"name", name}}, nil))
}

// GetHealth reads whether the process runs. It sends no token.
func (c *Client) GetHealth(ctx context.Context) (*Liveness, error) {
	return get[Liveness](ctx, c, opGetHealth.with())
}

// GetReadiness reads the state of each part, also while the gateway is not ready. It sends no token.
func (c *Client) GetReadiness(ctx context.Context) (*Readiness, error) {
	return get[Readiness](ctx, c, opGetReadiness.with())
}

// GetMetrics reads the metrics as Prometheus text. It needs a platform operator's token.
func (c *Client) GetMetrics(ctx context.Context) (string, error) {
	return getText(ctx, c, opGetMetrics.with())
}

// GetOpenAPI reads the OpenAPI document of the gateway. It sends no token.
func (c *Client) GetOpenAPI(ctx context.Context) (json.RawMessage, error) {
	found, err := get[json.RawMessage](ctx, c, opGetOpenAPI.with())
	if err != nil {
		return nil, err
	}
	return *found, nil
}
