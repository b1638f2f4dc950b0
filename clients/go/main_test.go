package claviger

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// A gateway with the tenant `acme`, its connection `embedded` and its key `orders`, for all tests.
var shared *gateway

// The path of the gateway's binary.
var binaryOfGateway = os.Getenv("CLAVIGER_TEST_BINARY")

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if binaryOfGateway == "" {
		fmt.Fprintln(os.Stderr, "CLAVIGER_TEST_BINARY must name the gateway's binary; tests/run clients sets it")
		return 1
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer listener.Close()
	go countConnections(listener)
	// Before the first call: net/http reads the variables once.
	for name, value := range map[string]string{
		"HTTP_PROXY": "http://" + listener.Addr().String(), "HTTPS_PROXY": "http://" + listener.Addr().String(), "NO_PROXY": "", "no_proxy": "",
	} {
		os.Setenv(name, value)
	}
	shared, err = startGateway()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer shared.end()
	if err := shared.withTenant("acme", "orders"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// For the examples, which are programs of the README. No test has another environment by accident.
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "CLAVIGER_") && name != "CLAVIGER_TEST_BINARY" {
			os.Unsetenv(name)
		}
	}
	os.Setenv("CLAVIGER_ADDRESS", shared.url())
	os.Setenv("CLAVIGER_TOKEN_FILE", shared.tokenFile)
	os.Setenv("CLAVIGER_TENANT", "acme")
	return m.Run()
}

// The number of connections to the proxy that the environment names. None of a client may be among them.
var proxied atomic.Int64

func countConnections(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		proxied.Add(1)
		connection.Close()
	}
}
