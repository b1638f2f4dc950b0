package claviger

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Version is the version of this client.
const Version = "0.1.0"

// Client calls a gateway. Goroutines can share it, and should: it keeps connections for the next calls.
type Client struct {
	settings
	address      *url.URL
	prefix       string
	tokens       tokenSource
	roundTripper http.RoundTripper
	// What is wrong with the options of With.
	wrong error
	// A random pause, at most this long. Full jitter: callers that failed together do not come back together.
	jitter func(longest time.Duration) time.Duration
}

// New makes a client for the gateway at an address such as `https://claviger.example:8420`. Plain http is for loopback,
// unless [WithPlainHTTP] is given.
//
// It needs one of [WithToken], [WithTokenFile] and [WithTokenFunc]. Nothing is sent, and no token file is read, before
// the first call.
func New(address string, options ...Option) (*Client, error) {
	made := &config{settings: settings{timeout: defaultTimeout, retries: defaultRetries}}
	for _, option := range options {
		if err := option.applyTo(made); err != nil {
			return nil, err
		}
	}
	if len(made.tokens) != 1 {
		return nil, invalid("give one of WithToken, WithTokenFile and WithTokenFunc")
	}
	parsed, err := checkAddress(address, made.allowPlainHTTP)
	if err != nil {
		return nil, err
	}
	if made.tls == nil {
		made.tls = &tls.Config{}
	}
	if made.roots != nil {
		made.tls.RootCAs = made.roots
	}
	return &Client{
		settings:     made.settings,
		address:      parsed,
		prefix:       strings.TrimRight(address, "/"),
		tokens:       made.tokens[0],
		roundTripper: newTransport(made.tls),
		jitter:       func(longest time.Duration) time.Duration { return rand.N(longest + 1) },
	}, nil
}

// FromEnv makes a client of the variables that the command line reads, too; `claviger dev` prints them:
// CLAVIGER_ADDRESS, CLAVIGER_TOKEN_FILE (or else CLAVIGER_TOKEN), and where it is set CLAVIGER_TENANT. The options go
// before the variables.
func FromEnv(options ...Option) (*Client, error) {
	address := os.Getenv("CLAVIGER_ADDRESS")
	if address == "" {
		return nil, invalid("CLAVIGER_ADDRESS must be set")
	}
	given := new(config)
	for _, option := range options {
		// What is wrong with it New returns.
		_ = option.applyTo(given)
	}
	var found []Option
	if given.tokens == nil {
		file, token := os.Getenv("CLAVIGER_TOKEN_FILE"), os.Getenv("CLAVIGER_TOKEN")
		switch {
		case file != "":
			found = append(found, WithTokenFile(file))
		case token != "":
			found = append(found, WithToken(token))
		default:
			return nil, invalid("CLAVIGER_TOKEN_FILE must be set")
		}
	}
	if tenant := os.Getenv("CLAVIGER_TENANT"); tenant != "" {
		found = append(found, WithTenant(tenant))
	}
	return New(address, append(found, options...)...)
}

// With returns a client with other settings that shares this one's connections. What is wrong with an option its calls
// return.
func (c *Client) With(options ...CallOption) *Client {
	other := *c
	for _, option := range options {
		if err := option.applyToCalls(&other.settings); err != nil && other.wrong == nil {
			other.wrong = err
		}
	}
	return &other
}

// Close closes the connections that no call uses, also those of clients that [Client.With] returned. A later call makes
// new ones.
func (c *Client) Close() {
	if closer, ok := c.roundTripper.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// String returns the address.
func (c *Client) String() string {
	return fmt.Sprintf("claviger.Client(%s)", c.prefix)
}

// GoString returns the address.
func (c *Client) GoString() string {
	return c.String()
}

// get carries out a call that returns an object.
func get[T any](ctx context.Context, c *Client, r request) (*T, error) {
	made := new(T)
	if err := c.carryOut(ctx, r, made); err != nil {
		return nil, err
	}
	return made, nil
}

// do carries out a call that returns nothing.
func do(ctx context.Context, c *Client, r request) error {
	return c.carryOut(ctx, r, nil)
}

// getText carries out a call that returns text.
func getText(ctx context.Context, c *Client, r request) (string, error) {
	var text string
	err := c.carryOut(ctx, r, &text)
	return text, err
}
