package claviger

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// As much as the largest batch, in plain and wrapped, can return, and more.
	mostResponseBytes = 64 << 20
	mostHeaderBytes   = 256 << 10
	connectTime       = 5 * time.Second
	// Connections that wait for the next request. Otherwise many goroutines would make a new one for nearly every call.
	idleConnections = 100
	idleTime        = 90 * time.Second
)

// checkAddress checks the form of an address, and returns it without a slash at its end.
func checkAddress(address string, allowPlainHTTP bool) (*url.URL, error) {
	made, err := url.Parse(address)
	if err != nil {
		// Its own text repeats the address, which may have a password.
		return nil, invalid("the address is no URL")
	}
	if (made.Scheme != "http" && made.Scheme != "https") || made.Hostname() == "" {
		return nil, invalid("the address must begin with https:// (or http://) and a host")
	}
	port, err := strconv.ParseUint(made.Port(), 10, 16)
	if made.Port() != "" && (err != nil || port == 0) {
		return nil, invalid("the address has a port that there is not")
	}
	if made.User != nil || made.RawQuery != "" || made.ForceQuery || made.Fragment != "" {
		return nil, invalid("the address may have only a scheme, a host, a port and a path")
	}
	if made.Scheme == "http" && !allowPlainHTTP && !isLoopback(made.Hostname()) {
		return nil, invalid("a token is sent to another host only over https (or with WithPlainHTTP)")
	}
	return made, nil
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && address.IsLoopback())
}

// newTransport makes what holds the connections.
//
// HTTP/1.1 has a connection for each request. The gateway resets one whose response is not read in time for a
// revocation; over HTTP/2 that would end the other requests on it.
func newTransport(settings *tls.Config) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		// Keys and tokens pass no proxy that an environment variable names.
		Proxy:                  nil,
		DialContext:            (&net.Dialer{Timeout: connectTime}).DialContext,
		TLSClientConfig:        settings,
		TLSHandshakeTimeout:    connectTime,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idleConnections,
		IdleConnTimeout:        idleTime,
		MaxResponseHeaderBytes: mostHeaderBytes,
		Protocols:              protocols,
	}
}

// outgoing is a request, ready to be sent.
type outgoing struct {
	method, url string
	header      http.Header
	body        []byte
}

// response is a complete response.
type response struct {
	status int
	header http.Header
	body   []byte
}

var errTooLarge = errors.New("too large")

// send sends a request and reads its response to the end. It follows no redirect.
func (c *Client) send(ctx context.Context, r *outgoing) (*response, *Error) {
	progress := new(progress)
	var content io.Reader
	if r.body != nil {
		content = bytes.NewReader(r.body)
	}
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, progress.trace()), r.method, r.url, content)
	if err != nil {
		return nil, progress.meaning(ctx, c.address.Host, err)
	}
	request.Header = r.header
	found, err := c.roundTripper.RoundTrip(request)
	if err != nil {
		return nil, progress.meaning(ctx, c.address.Host, err)
	}
	defer func() { _ = found.Body.Close() }() // What is left of it is of no use.
	progress.begun.Store(true)
	body, err := readBody(found)
	if err != nil {
		clear(body)
		return nil, progress.meaning(ctx, c.address.Host, err)
	}
	return &response{found.StatusCode, found.Header, body}, nil
}

func readBody(of *http.Response) ([]byte, error) {
	body := new(bytes.Buffer)
	if of.ContentLength > mostResponseBytes {
		return nil, errTooLarge
	}
	// At once, if it is known how much: a buffer that grows leaves copies behind.
	body.Grow(int(max(of.ContentLength, 0)) + bytes.MinRead)
	_, err := body.ReadFrom(io.LimitReader(of.Body, mostResponseBytes+1))
	if err == nil && body.Len() > mostResponseBytes {
		err = errTooLarge
	}
	return body.Bytes(), err
}

// progress is how far a request came. The transport reports it from goroutines of its own.
type progress struct {
	// There is a connection, and so the request may have been sent.
	connected atomic.Bool
	// The first byte of the response came.
	answered atomic.Bool
	// The headers of the response came.
	begun atomic.Bool
}

func (p *progress) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn:              func(httptrace.GotConnInfo) { p.connected.Store(true) },
		GotFirstResponseByte: func() { p.answered.Store(true) },
	}
}

// meaning makes the client's error of one of net/http, whose own text could contain what a stranger sent.
func (p *progress) meaning(ctx context.Context, host string, err error) *Error {
	reason, ended := reasonOf(err), ctx.Err()
	switch {
	case errors.Is(err, errTooLarge):
		return &Error{
			Code:          CodeUnexpectedResponse,
			Title:         "Unexpected response",
			Detail:        fmt.Sprintf("The response of %s is larger than any of a Claviger gateway.", host),
			WhatToDo:      "Check the address, and what is between the client and the gateway.",
			MaybeExecuted: true,
		}
	case errors.Is(ended, context.Canceled):
		return canceled(ended, "before the response was complete", p.connected.Load())
	case isUntrusted(err):
		return &Error{
			Code:     CodeCertificateUntrusted,
			Title:    "Certificate not trusted",
			Detail:   fmt.Sprintf("The certificate of %s is not trusted: %s.", host, reason),
			WhatToDo: "Give the authority that signed it by WithCAFile, and use a name in the address that is in the certificate.",
		}
	case !p.connected.Load():
		mistaken := isMistaken(err)
		advice := "Check the address, and that the gateway runs and can be reached from here."
		if mistaken {
			advice = "Check that the address has the right scheme (http or https) and port."
		}
		return &Error{
			Code:      CodeGatewayUnreachable,
			Title:     "Gateway unreachable",
			Detail:    fmt.Sprintf("No connection to %s: %s.", host, reason),
			WhatToDo:  advice,
			Retryable: !mistaken,
			cause:     ended,
		}
	case ended != nil:
		return &Error{
			Code:          CodeDeadlineExceeded,
			Title:         "Deadline exceeded",
			Detail:        fmt.Sprintf("%s did not answer within the deadline.", host),
			WhatToDo:      "Allow more time, or check what the gateway waits for (/readyz, and the log of the gateway).",
			Retryable:     true,
			MaybeExecuted: true,
			cause:         ended,
		}
	case p.begun.Load():
		return &Error{
			Code:          CodeResponseTruncated,
			Title:         "Response truncated",
			Detail:        fmt.Sprintf("The response of %s ended too early: %s.", host, reason),
			WhatToDo:      "Repeat the call. If it happens again, check what is between the client and the gateway.",
			Retryable:     true,
			MaybeExecuted: true,
		}
	case p.answered.Load() && !isEnd(err):
		return &Error{
			Code:          CodeUnexpectedResponse,
			Title:         "Unexpected response",
			Detail:        fmt.Sprintf("%s does not speak HTTP.", host),
			WhatToDo:      "Check that the address has the right scheme (http or https) and port.",
			MaybeExecuted: true,
		}
	}
	return &Error{
		Code:          CodeConnectionLost,
		Title:         "Connection lost",
		Detail:        fmt.Sprintf("The connection to %s ended before the response: %s.", host, reason),
		WhatToDo:      "Repeat the call if that is safe. If it happens again, check that the gateway runs, that the address has the right scheme (http or https), and what is between.",
		Retryable:     true,
		MaybeExecuted: true,
	}
}

func canceled(ended error, when string, maybeExecuted bool) *Error {
	return &Error{
		Code:          CodeCanceled,
		Title:         "Canceled",
		Detail:        fmt.Sprintf("The caller canceled the call %s.", when),
		MaybeExecuted: maybeExecuted,
		cause:         ended,
	}
}

func isUntrusted(err error) bool {
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(x509.HostnameError)) ||
		errors.As(err, new(x509.UnknownAuthorityError)) || errors.As(err, new(x509.CertificateInvalidError))
}

// isMistaken reports whether the server speaks another protocol, or refuses the client's TLS.
func isMistaken(err error) bool {
	return errors.As(err, new(tls.RecordHeaderError)) || alertOf(err) != ""
}

// alertOf returns the text of the TLS alert that ended a connection.
func alertOf(err error) string {
	var found *net.OpError
	if errors.As(err, &found) && found.Op == "remote error" {
		return strings.TrimPrefix(found.Err.Error(), "tls: ")
	}
	return ""
}

func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, new(syscall.Errno))
}

// reasonOf returns the words of the operating system or of the TLS library.
func reasonOf(err error) string {
	var untrusted *tls.CertificateVerificationError
	var lookup *net.DNSError
	var system syscall.Errno
	var timeout net.Error
	switch {
	case errors.As(err, &untrusted):
		return strings.TrimPrefix(untrusted.Err.Error(), "x509: ")
	case errors.As(err, &lookup):
		return lookup.Err
	case errors.As(err, &system):
		return system.Error()
	case alertOf(err) != "":
		return alertOf(err)
	case isMistaken(err):
		return "the server does not speak TLS"
	case isUntrusted(err):
		return strings.TrimPrefix(err.Error(), "x509: ")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it was closed"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "it took too long"
	case errors.Is(err, context.Canceled):
		return "it was canceled"
	}
	return "it failed"
}
