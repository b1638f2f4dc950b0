package claviger

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var page502 = responds(502, "text/html; charset=utf-8", "<html><h1>502 Bad Gateway</h1></html>")

// quick makes pauses before retries short.
func quick(c *Client) *Client {
	c.jitter = noJitter
	return c
}

func TestTruncatedResponse(t *testing.T) {
	cut := respondsWith(200, "application/json", string(marshal(unwrappedWith(nil))), 4000)
	s := newStub(t, cut, object(200, unwrappedWith(nil)))
	client := quick(connect(t, s.address, WithToken(someToken)))
	unwrapped := must(client.Unwrap(t.Context(), "clv1.x", UnwrapOptions{}))(t)
	equal(t, string(unwrapped.Plaintext.Expose()), content)
	equal(t, s.count(), 2)
	s.set(cut)
	_, err := client.With(WithRetries(1)).Unwrap(t.Context(), "clv1.x", UnwrapOptions{})
	found := failed(t, err, ErrTruncatedResponse)
	equal(t, []any{found.Code, found.Status, found.Retryable, found.MaybeExecuted}, []any{CodeResponseTruncated, 0, true, true})
	equal(t, found.WhatToDo != "", true)
	equal(t, s.count(), 4)
	// A change is not sent again.
	failed(t, client.DeleteKey(t.Context(), "orders"), ErrTruncatedResponse)
	equal(t, s.count(), 5)
}

func TestChunkedResponseThatEndsTooEarlyOrIsNonsense(t *testing.T) {
	head := "HTTP/1.1 200 x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, rest := range []string{"5\r\n{\"pla", "zz\r\n"} {
		s := newStub(t, raw(head+rest))
		_, err := connect(t, s.address, WithToken(someToken), WithRetries(0)).Unwrap(t.Context(), "clv1.x", UnwrapOptions{})
		found := failed(t, err, ErrTruncatedResponse)
		equal(t, []any{found.WhatToDo != "", found.MaybeExecuted}, []any{true, true})
	}
}

func TestJSONThatEndsTooEarly(t *testing.T) {
	s := newStub(t, responds(200, "application/json", `{"plaintext": "c2Vj`), object(200, unwrappedWith(nil)))
	client := quick(connect(t, s.address, WithToken(someToken)))
	equal(t, must(client.Unwrap(t.Context(), "clv1.x", UnwrapOptions{}))(t).Key, "orders")
}

func TestHTMLPageOfAProxy(t *testing.T) {
	s := newStub(t, page502)
	client := quick(connect(t, s.address, WithToken(someToken), WithRetries(1)))
	get := func(detail string) *Error {
		t.Helper()
		_, err := client.GetKey(t.Context(), "orders")
		contains(t, failed(t, err, ErrUnexpectedResponse).Error(), detail)
		return failed(t, err, ErrTransport)
	}
	found := get("status 502, text/html")
	equal(t, []any{found.Status, found.Code, found.Retryable}, []any{502, CodeUnexpectedResponse, true})
	contains(t, found.WhatToDo, "/readyz")
	equal(t, s.count(), 2)
	s.set(responds(200, "text/html", "<html>Sign in</html>"))
	get("a proxy or a load balancer answered")
	s.set(responds(414, "text/plain", ""))
	get("status 414")
	s.set(responds(307, "text/plain", "", "Location: http://127.0.0.1:1/"))
	get("Redirects are not followed")
	equal(t, s.count(), 5)
}

func TestServerThatIsNone(t *testing.T) {
	s := newStub(t, raw("SSH-2.0-OpenSSH_9.2\r\n\r\n"))
	_, err := connect(t, s.address, WithToken(someToken)).GetKey(t.Context(), "orders")
	contains(t, failed(t, err, ErrUnexpectedResponse).Detail, "does not speak HTTP")
	equal(t, s.count(), 1)
	_, err = connect(t, strings.Replace(s.address, "http:", "https:", 1), WithToken(someToken)).GetKey(t.Context(), "orders")
	found := failed(t, err, ErrGatewayUnreachable)
	contains(t, found.WhatToDo, "right scheme")
	equal(t, found.Retryable, false)
}

func TestResponseWithoutEnd(t *testing.T) {
	piece := strings.Repeat(" ", 1<<20)
	written := make(chan int, 1)
	s := newStub(t, func(_ *stubRequest, w io.Writer) {
		io.WriteString(w, "HTTP/1.1 200 x\r\nConnection: close\r\n\r\n")
		// Until the client closes the connection.
		for count := 0; ; count++ {
			if _, err := io.WriteString(w, piece); err != nil {
				written <- count
				return
			}
		}
	}, respondsWith(200, "application/json", "{", mostResponseBytes+1), responds(200, "application/json", "{}", "A: "+strings.Repeat("a", mostHeaderBytes)))
	client := connect(t, s.address, WithToken(someToken))
	for i := range 3 {
		_, err := client.GetKey(t.Context(), "orders")
		found := failed(t, err, ErrUnexpectedResponse)
		if i < 2 {
			contains(t, found.Detail, "larger than any")
		}
		equal(t, s.count(), i+1)
	}
	// The client took no more than it may. The rest is in buffers of the kernel, which may have 36 MiB by default.
	equal(t, <-written < 4*mostResponseBytes>>20, true)
}

func TestNoProxyOfTheEnvironmentIsUsed(t *testing.T) {
	// Of a host that is not this one, which has no proxy anyway.
	for _, address := range []string{"https://no-such-host.invalid", "http://no-such-host.invalid"} {
		client := connect(t, address, WithToken(someToken), WithRetries(0), WithPlainHTTP())
		_, err := client.GetKey(t.Context(), "orders")
		failed(t, err, ErrGatewayUnreachable)
	}
	equal(t, proxied.Load(), int64(0))
}

func TestRefusedConnection(t *testing.T) {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	address := "http://" + listener.Addr().String()
	listener.Close()
	_, err := quick(connect(t, address, WithToken(someToken), WithRetries(2))).GetKey(t.Context(), "orders")
	found := failed(t, err, ErrGatewayUnreachable)
	contains(t, found.Detail, "connection refused")
	equal(t, []any{found.Status, found.Retryable, found.MaybeExecuted}, []any{0, true, false})
	contains(t, found.WhatToDo, "gateway runs")
	// Nothing of it can be decided by whoever answers, so it is quick.
	_, err = connect(t, "https://no-such-host.invalid", WithToken(someToken), WithRetries(0)).GetKey(t.Context(), "orders")
	contains(t, failed(t, err, ErrGatewayUnreachable).Detail, "No connection to no-such-host.invalid")
}

func TestConnectionThatEndsWithoutAnAnswer(t *testing.T) {
	s := newStub(t, nil, object(201, keyWith(nil)))
	client := quick(connect(t, s.address, WithToken(someToken)))
	equal(t, must(client.CreateKey(t.Context(), "orders", "embedded", CreateKeyOptions{}))(t).Name, "orders")
	first, second := s.seen()[0], s.seen()[1]
	equal(t, first.Header.Get("Idempotency-Key"), second.Header.Get("Idempotency-Key"))
	equal(t, first.body, second.body)
	s.set(nil)
	_, err := client.UpdateKey(t.Context(), "orders", "*", UpdateKeyOptions{Labels: map[string]string{"a": "b"}})
	found := failed(t, err, ErrConnectionLost)
	equal(t, found.MaybeExecuted, true)
	contains(t, found.WhatToDo, "Repeat the call if that is safe")
	equal(t, s.count(), 3)
}

func TestGatewayThatDoesNotAnswer(t *testing.T) {
	ctx, release := context.WithCancel(t.Context())
	s := newStub(t, func(*stubRequest, io.Writer) { <-ctx.Done() })
	begin := time.Now()
	_, err := connect(t, s.address, WithToken(someToken), WithTimeout(time.Second)).GetKey(t.Context(), "orders")
	took := time.Since(begin)
	release()
	found := failed(t, err, ErrDeadlineExceeded)
	equal(t, took > 900*time.Millisecond && took < 30*time.Second, true)
	equal(t, []any{found.MaybeExecuted, found.RequestID, errors.Is(err, context.DeadlineExceeded)}, []any{true, "", true})
	contains(t, found.WhatToDo, "Allow more time")
	sent := must(time.ParseDuration(s.seen()[0].Header.Get("Claviger-Timeout")))(t)
	equal(t, sent >= 100*time.Millisecond && sent <= 900*time.Millisecond, true)
}

func TestResponseThatTricklesIn(t *testing.T) {
	s := newStub(t, func(r *stubRequest, w io.Writer) {
		respondsWith(200, "application/json", "", 100_000)(r, w)
		for {
			if _, err := io.WriteString(w, " "); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	begin := time.Now()
	_, err := connect(t, s.address, WithToken(someToken), WithTimeout(time.Second)).GetKey(t.Context(), "orders")
	failed(t, err, ErrDeadlineExceeded)
	equal(t, time.Since(begin) < 30*time.Second, true)
	equal(t, s.count(), 1)
}

// certificate makes one that signs itself, for 127.0.0.1, and its file.
func certificate(t *testing.T) (tls.Certificate, string, string) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	made := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)
	private := must(x509.MarshalPKCS8PrivateKey(key))(t)
	folder := t.TempDir()
	certificateFile, keyFile := filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key")
	write(t, certificateFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made})))
	write(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return must(tls.LoadX509KeyPair(certificateFile, keyFile))(t), certificateFile, keyFile
}

func TestCertificateThatIsNotTrusted(t *testing.T) {
	pair, file, _ := certificate(t)
	s := newTLSStub(t, &tls.Config{Certificates: []tls.Certificate{pair}}, object(200, keyWith(nil)))
	get := func(address string, options ...Option) error {
		_, err := connect(t, address, append(options, WithToken(someToken))...).GetKey(t.Context(), "orders")
		return err
	}
	found := failed(t, get(s.address), ErrUntrustedCertificate)
	contains(t, found.Detail, "certificate signed by unknown authority")
	contains(t, found.WhatToDo, "WithCAFile")
	equal(t, []any{found.Retryable, found.MaybeExecuted}, []any{false, false})
	succeeds(t, get(s.address, WithCAFile(file)))
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	succeeds(t, get(s.address, WithRootCAs(roots)))
	settings := &tls.Config{RootCAs: roots}
	succeeds(t, get(s.address, WithTLSConfig(settings)))
	err := get(strings.Replace(s.address, "127.0.0.1", "localhost", 1), WithCAFile(file))
	contains(t, failed(t, err, ErrUntrustedCertificate).Detail, "localhost")
	failed(t, get(s.address, WithTLSConfig(settings), WithRootCAs(x509.NewCertPool())), ErrUntrustedCertificate)
	equal(t, settings.RootCAs == roots, true)
	equal(t, s.count(), 3)
}

func TestServerThatWantsACertificate(t *testing.T) {
	pair, file, _ := certificate(t)
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	s := newTLSStub(t, &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert}, object(200, keyWith(nil)))
	client := quick(connect(t, s.address, WithToken(someToken), WithCAFile(file), WithRetries(0)))
	_, err := client.GetKey(t.Context(), "orders")
	contains(t, failed(t, err, ErrTransport).Detail, "certificate required")
	client = connect(t, s.address, WithToken(someToken), WithTLSConfig(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}))
	must(client.GetKey(t.Context(), "orders"))(t)
}

func TestGatewayWithTLS(t *testing.T) {
	_, file, key := certificate(t)
	g := must(startGateway("CLAVIGER_SERVER__TLS__CERTIFICATE="+file, "CLAVIGER_SERVER__TLS__KEY="+key))(t)
	defer g.end()
	client := connect(t, "https://"+g.address, WithTokenFile(g.tokenFile), WithCAFile(file))
	equal(t, must(client.WhoAmI(t.Context()))(t).Operator, true)
	_, err := connect(t, "https://"+g.address, WithTokenFile(g.tokenFile)).WhoAmI(t.Context())
	failed(t, err, ErrUntrustedCertificate)
	_, err = connect(t, "http://"+g.address, WithTokenFile(g.tokenFile), WithRetries(0)).WhoAmI(t.Context())
	equal(t, failed(t, err, ErrTransport).WhatToDo != "", true)
}

func TestProblemsAndWordsOfLaterGateways(t *testing.T) {
	s := newStub(t, problem("moon_phase", 418, map[string]any{
		"moon": "full", "what_to_do": "Wait.", "errors": []any{map[string]any{"pointer": "/a", "expected": "b"}}, "provider_message": "P.",
	}, "Claviger-Audit-Index: log#1"))
	client := quick(connect(t, s.address, WithToken(someToken), WithRetries(1)))
	get := func() (*Key, error) { return client.GetKey(t.Context(), "orders") }
	_, err := get()
	found := failed(t, err, nil)
	equal(t, []any{found.Code, found.Status, found.RequestID, found.Title, found.AuditIndex}, []any{ErrorCode("moon_phase"), 418, "0193", "Title", "log#1"})
	equal(t, string(found.Extra["moon"]), `"full"`)
	equal(t, found.Places, []Place{{"/a", "b"}})
	equal(t, found.Error(), "Detail. [moon_phase] /a: expected b. The provider: P. Wait. (request 0193)")
	equal(t, errors.Is(err, ErrInvalidRequest) || errors.Is(err, ErrTransport), false)
	s.set(problem("moon_phase", 503, map[string]any{"retryable": true}))
	_, err = get()
	failed(t, err, nil)
	equal(t, s.count(), 3)
	s.set(object(200, keyWith(map[string]any{"state": "eclipsed", "moon": "full", "rotation": map[string]any{"state": "idle", "since": "now"}})))
	key := must(get())(t)
	equal(t, []any{key.State, key.State.Known(), key.State == KeyStateEnabled}, []any{KeyState("eclipsed"), false, false})
	equal(t, []string{string(key.Extra["moon"]), string(key.Rotation.Extra["since"])}, []string{`"full"`, `"now"`})
	equal(t, []any{key.Spec.Known(), key.Custody.Known(), len(key.Extra)}, []any{true, true, 1})
	// Members of the wrong kind do not hide the error.
	s.set(problem("not_found", 404, map[string]any{"detail": 5, "errors": "x", "provider": []any{}, "status": "x"}))
	_, err = get()
	failed(t, err, ErrNotFound)
}

func isInvalid(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, ErrInvalidArgument) {
		t.Fatalf("%v is not ErrInvalidArgument", err)
	}
}

func TestAddressesThatAreRefused(t *testing.T) {
	for _, address := range []string{
		"", "localhost", "ftp://localhost", "http://", "http://gateway.example", "https://u:p@gateway", "https://gateway?x", "https://gateway?",
		"https://gateway#x", "https://gateway:99999", "https://gateway:0", "https://gate way", "http://127.0.0.1.example",
	} {
		_, err := New(address, WithToken(someToken))
		isInvalid(t, err)
		hidden(t, err.Error(), []byte("u:p"))
	}
	for _, address := range []string{"http://[::1]:8420/prefix/", "http://127.0.0.2", "http://localhost:1", "https://gateway.example"} {
		must(New(address, WithToken(someToken)))(t)
	}
	equal(t, must(New("http://[::1]:8420/prefix/", WithToken(someToken)))(t).String(), "claviger.Client(http://[::1]:8420/prefix)")
	must(New("http://gateway.example", WithToken(someToken), WithPlainHTTP()))(t)
}

func TestArgumentsThatAreRefused(t *testing.T) {
	s := newStub(t, problem("not_found", 404, nil))
	client := connect(t, s.address, WithToken(someToken))
	for _, wrong := range []CallOption{
		WithTimeout(0), WithTimeout(1e9 * time.Second), WithRetries(-1), WithTenant("a\nb"), WithJustification(strings.Repeat("x", 257)),
		WithJustification("ü"),
	} {
		_, err := New(s.address, WithToken(someToken), wrong)
		isInvalid(t, err)
		_, err = client.With(wrong, WithRetries(0)).GetKey(t.Context(), "orders")
		isInvalid(t, err)
	}
	for _, file := range []string{"/no/such/file", "bad_input_test.go"} {
		_, err := New("https://localhost", WithToken(someToken), WithCAFile(file))
		isInvalid(t, err)
		contains(t, err.Error(), file)
	}
	for _, name := range []string{"", ".", ".."} {
		_, err := client.GetKey(t.Context(), name)
		isInvalid(t, err)
	}
	for _, key := range []string{"a b", "a\n", "ü", strings.Repeat("x", 256)} {
		_, err := client.CreateKey(t.Context(), "orders", "embedded", CreateKeyOptions{IdempotencyKey: key})
		isInvalid(t, err)
	}
	for _, etag := range []string{"a\r\nb", ""} {
		_, err := client.UpdateKey(t.Context(), "orders", etag, UpdateKeyOptions{})
		isInvalid(t, err)
	}
	_, err := client.GenerateDataKey(t.Context(), "orders", DataKeyOptions{Context: map[string]string{"a": "\xff"}})
	isInvalid(t, err)
	_, err = client.CreateToken(t.Context(), "p", nil, CreateTokenOptions{ExpiresIn: -time.Second})
	isInvalid(t, err)
	equal(t, s.count(), 0)
	_, err = client.GetKey(t.Context(), "a/../b?c#d%")
	failed(t, err, ErrNotFound)
	equal(t, s.seen()[0].RequestURI, "/v1/keys/a%2F..%2Fb%3Fc%23d%25")
}

func TestConnectionsAreReused(t *testing.T) {
	var made atomic.Int64
	text := string(marshal(keyWith(nil)))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, text)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			made.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	client := connect(t, server.URL, WithToken(someToken))
	for range 20 {
		must(client.GetKey(t.Context(), "orders"))(t)
	}
	equal(t, made.Load(), int64(1))
	for range 5 {
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				if _, err := client.GetKey(t.Context(), "orders"); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
	// Without room for idle ones nearly each of the 250 calls would make one. The transport makes some that prove unneeded.
	if made.Load() > 125 {
		t.Fatalf("%d connections for 50 calls at once", made.Load())
	}
}
