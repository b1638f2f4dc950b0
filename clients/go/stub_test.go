package claviger

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// stub answers each request with the next of the answers, and repeats the last one. It closes the connection after each.
type stub struct {
	address  string
	listener net.Listener

	mutex    sync.Mutex
	answers  []answer
	requests []*stubRequest
}

// answer writes what the server answers, byte by byte.
type answer func(r *stubRequest, w io.Writer)

type stubRequest struct {
	*http.Request
	body []byte
}

func (r *stubRequest) token() string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

func newStub(t testing.TB, answers ...answer) *stub {
	return newStubOn(t, func(l net.Listener) net.Listener { return l }, "http", answers...)
}

func newTLSStub(t testing.TB, settings *tls.Config, answers ...answer) *stub {
	return newStubOn(t, func(l net.Listener) net.Listener { return tls.NewListener(l, settings) }, "https", answers...)
}

func newStubOn(t testing.TB, on func(net.Listener) net.Listener, scheme string, answers ...answer) *stub {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	succeeds(t, err)
	s := &stub{address: scheme + "://" + listener.Addr().String(), listener: on(listener), answers: answers}
	var under sync.WaitGroup
	under.Go(func() {
		for {
			connection, err := s.listener.Accept()
			if err != nil {
				return
			}
			under.Go(func() { s.serve(connection) })
		}
	})
	t.Cleanup(func() {
		s.listener.Close()
		under.Wait()
	})
	return s
}

func (s *stub) serve(connection net.Conn) {
	defer connection.Close()
	reader := bufio.NewReader(connection)
	if first, err := reader.Peek(1); err == nil && first[0] == 0x16 {
		// TLS, without being asked for: answered as web servers do.
		responds(400, "text/plain", "plain HTTP only")(nil, connection)
		return
	}
	read, err := http.ReadRequest(reader)
	if err != nil {
		return
	}
	request := &stubRequest{Request: read}
	if request.body, err = io.ReadAll(read.Body); err != nil {
		return
	}
	s.mutex.Lock()
	s.requests = append(s.requests, request)
	next := s.answers[min(len(s.requests), len(s.answers))-1]
	s.mutex.Unlock()
	if next != nil {
		next(request, connection)
	}
}

// set gives other answers, which the next request begins with.
func (s *stub) set(answers ...answer) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.answers = append(make([]answer, len(s.requests)), answers...)
}

func (s *stub) count() int {
	return len(s.seen())
}

func (s *stub) seen() []*stubRequest {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.requests)
}

// raw answers these bytes.
func raw(text string) answer {
	return func(_ *stubRequest, w io.Writer) { io.WriteString(w, text) }
}

// responds answers a response; `headers` are lines.
func responds(status int, kind, body string, headers ...string) answer {
	return respondsWith(status, kind, body, len(body), headers...)
}

// respondsWith says another length than the true one.
func respondsWith(status int, kind, body string, length int, headers ...string) answer {
	lines := append([]string{
		fmt.Sprintf("HTTP/1.1 %d x", status), "Content-Type: " + kind, fmt.Sprintf("Content-Length: %d", length), "Connection: close",
	}, headers...)
	return raw(strings.Join(lines, "\r\n") + "\r\n\r\n" + body)
}

// object answers JSON.
func object(status int, value any) answer {
	return responds(status, "application/json", string(marshal(value)))
}

// problem answers a problem document with further members.
func problem(code string, status int, members map[string]any, headers ...string) answer {
	document := map[string]any{
		"type": "urn:claviger:error:" + code, "title": "Title", "status": status, "detail": "Detail.", "code": code, "request_id": "0193",
		"retryable": false,
	}
	maps.Copy(document, members)
	return responds(status, "application/problem+json", string(marshal(document)), headers...)
}

func marshal(value any) []byte {
	text := new(bytes.Buffer)
	encoder := json.NewEncoder(text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err)
	}
	return text.Bytes()
}

const (
	someToken  = "clv_aaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	otherToken = "clv_cccccccccccc_ddddddddddddddddddddddddddddddddddddddddddddddddd"
	content    = "secret-content"
)

// keyWith returns the members of a key, with changes.
func keyWith(changes map[string]any) map[string]any {
	key := map[string]any{
		"allow_export": false, "cache": map[string]any{"max_age": "60s"}, "connection": "embedded", "created": "2026-11-23T15:04:05.000001Z",
		"custody": "provider", "etag": `"3"`, "id": "3f6a9d2c5b8e1f40a7d3c6b9e2f5a8d1", "labels": map[string]string{"env": "prod"},
		"managed_by": nil, "name": "orders", "primary_version": 2, "provider": "local", "provider_key": "x",
		"rotation": map[string]any{"state": "idle"}, "spec": "aes-256", "state": "enabled", "tenant": "7d865e959b2466918c9863afca942d0f",
		"updated": "2026-11-23T15:04:05Z",
	}
	maps.Copy(key, changes)
	return key
}

// unwrappedWith returns the members of an unwrapped key, with changes.
func unwrappedWith(changes map[string]any) map[string]any {
	unwrapped := map[string]any{"plaintext": "c2VjcmV0LWNvbnRlbnQ=", "key": "orders", "version": 1, "cached": false}
	maps.Copy(unwrapped, changes)
	return unwrapped
}
