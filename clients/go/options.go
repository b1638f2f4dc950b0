package claviger

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"strings"
	"time"
)

const (
	// The shortest and the longest deadline that the API takes.
	shortestTimeout = 100 * time.Millisecond
	longestTimeout  = 9999 * time.Second

	defaultTimeout = 30 * time.Second
	defaultRetries = 4
)

// Option is a setting of a client: [New] takes all, [Client.With] those that are a [CallOption].
type Option interface {
	applyTo(*config) error
}

// CallOption is a setting that may differ between the calls of a client.
type CallOption interface {
	Option
	applyToCalls(*settings) error
}

// config is what a client is made of.
type config struct {
	settings
	tokens         []tokenSource
	tls            *tls.Config
	roots          *x509.CertPool
	allowPlainHTTP bool
}

// settings are those of calls.
type settings struct {
	tenant        string
	justification string
	timeout       time.Duration
	retries       int
	logger        *slog.Logger
}

type clientOption func(*config) error

func (o clientOption) applyTo(c *config) error { return o(c) }

type callOption func(*settings) error

func (o callOption) applyTo(c *config) error        { return o(&c.settings) }
func (o callOption) applyToCalls(s *settings) error { return o(s) }

// WithToken uses a token: an API token or a JWT.
func WithToken(token string) Option {
	return clientOption(func(c *config) error {
		made, err := parseToken(token)
		if err != nil {
			return err
		}
		c.tokens = append(c.tokens, fixedToken{made})
		return nil
	})
}

// WithTokenFile reads the token from a file, an API token or a JWT. It is read for each request, so it may be replaced.
func WithTokenFile(path string) Option {
	return clientOption(func(c *config) error {
		c.tokens = append(c.tokens, tokenFile{path})
		return nil
	})
}

// WithTokenFunc calls the function for each request, from many goroutines at once. It returns an API token or a JWT.
func WithTokenFunc(token func(ctx context.Context) (string, error)) Option {
	return clientOption(func(c *config) error {
		c.tokens = append(c.tokens, tokenFunction(token))
		return nil
	})
}

// WithCAFile trusts the authorities in a PEM file instead of the system's. The file is read once.
func WithCAFile(path string) Option {
	return clientOption(func(c *config) error {
		text, err := os.ReadFile(path)
		if err != nil {
			return invalid("the file of authorities cannot be read: %s", err)
		}
		c.roots = x509.NewCertPool()
		if !c.roots.AppendCertsFromPEM(text) {
			return invalid("%s is no file with PEM certificates", path)
		}
		return nil
	})
}

// WithRootCAs trusts these authorities instead of the system's.
func WithRootCAs(roots *x509.CertPool) Option {
	return clientOption(func(c *config) error {
		c.roots = roots
		return nil
	})
}

// WithTLSConfig uses other settings for TLS, such as a client certificate. Authorities of WithCAFile and WithRootCAs go
// before those in it.
func WithTLSConfig(settings *tls.Config) Option {
	return clientOption(func(c *config) error {
		c.tls = settings.Clone() // Of nil, nil.
		return nil
	})
}

// WithPlainHTTP permits addresses with http:// of other hosts than this one. Tokens and data keys are then sent
// unencrypted.
func WithPlainHTTP() Option {
	return clientOption(func(c *config) error {
		c.allowPlainHTTP = true
		return nil
	})
}

// WithTenant acts for a tenant, as a platform operator. An empty name ends that.
func WithTenant(name string) CallOption {
	return callOption(func(s *settings) error {
		s.tenant = name
		return checkHeader("the tenant", name)
	})
}

// WithJustification gives the reason of the calls, for the audit records: at most 256 printable ASCII characters.
func WithJustification(reason string) CallOption {
	return callOption(func(s *settings) error {
		s.justification = reason
		return checkHeader("the justification", reason)
	})
}

// WithTimeout is the deadline of each call with all its retries: 100 ms to 9999 s, by default 30 s. Each request of a
// list or a batch has this time. A context's deadline can only shorten it. The gateway has a shorter limit of its own
// for one attempt.
func WithTimeout(timeout time.Duration) CallOption {
	return callOption(func(s *settings) error {
		s.timeout = timeout
		if timeout < shortestTimeout || timeout > longestTimeout {
			return invalid("the timeout is between %s and %.0fs", shortestTimeout, longestTimeout.Seconds())
		}
		return nil
	})
}

// WithRetries is how often a call is repeated at most, by default 4 times.
func WithRetries(count int) CallOption {
	return callOption(func(s *settings) error {
		s.retries = count
		if count < 0 {
			return invalid("the number of retries is not negative")
		}
		return nil
	})
}

// WithLogger logs at the level debug what is repeated, and why. Nothing secret is logged.
func WithLogger(logger *slog.Logger) CallOption {
	return callOption(func(s *settings) error {
		s.logger = logger
		return nil
	})
}

func checkHeader(what, value string) error {
	if len(value) > 256 || !isPrintable(value) {
		return invalid("%s is at most 256 printable ASCII characters", what)
	}
	return nil
}

func isPrintable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}
