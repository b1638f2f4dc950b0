package claviger

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// How long a start may take.
const startTime = time.Minute

// gateway is a process of the real binary, with a folder of its own.
type gateway struct {
	binary, folder, tokenFile, address string
	environment                        []string
	process                            *exec.Cmd
	ended                              chan error
}

// startGateway runs `claviger init` and `claviger serve`, both with these variables.
func startGateway(variables ...string) (*gateway, error) {
	binary, err := filepath.Abs(binaryOfGateway)
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "claviger-go-")
	if err != nil {
		return nil, err
	}
	g := &gateway{binary: binary, folder: folder, tokenFile: filepath.Join(folder, "admin.token")}
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "CLAVIGER_") {
			g.environment = append(g.environment, variable)
		}
	}
	g.environment = append(g.environment,
		"CLAVIGER_SERVER__LISTEN=127.0.0.1:0",
		"CLAVIGER_STORAGE__DATA_DIR="+filepath.Join(folder, "data"),
		"CLAVIGER_STORAGE__ROOT_KEY__FILE="+filepath.Join(folder, "root.key"),
		"CLAVIGER_TELEMETRY__LOG_FORMAT=json",
	)
	g.environment = append(g.environment, variables...)
	initialize := exec.Command(binary, "init", "--token-out", g.tokenFile)
	initialize.Env = g.environment
	if output, err := initialize.CombinedOutput(); err != nil {
		g.end()
		return nil, fmt.Errorf("claviger init: %w\n%s", err, output)
	}
	if err := g.serve(); err != nil {
		g.end()
		return nil, err
	}
	return g, nil
}

// serve starts the process and waits until it serves.
func (g *gateway) serve() error {
	log, err := os.Create(filepath.Join(g.folder, "serve.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	process := exec.Command(g.binary, "serve")
	process.Env, process.Stdout, process.Stderr = g.environment, log, log
	if err := process.Start(); err != nil {
		return err
	}
	g.process, g.ended = process, make(chan error, 1)
	go func() { g.ended <- process.Wait() }()
	for end := time.Now().Add(startTime); time.Now().Before(end); {
		if address := g.served(); address != "" {
			g.address = address
			return nil
		}
		select {
		case err := <-g.ended:
			g.process = nil
			return fmt.Errorf("the gateway ended: %w\n%s", err, g.log())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return fmt.Errorf("the gateway does not serve:\n%s", g.log())
}

// served returns the address of a gateway that serves.
func (g *gateway) served() string {
	lines := bufio.NewScanner(strings.NewReader(g.log()))
	for lines.Scan() {
		var event struct{ Message, Address string }
		if json.Unmarshal(lines.Bytes(), &event) == nil && event.Message == "serving" {
			return event.Address
		}
	}
	return ""
}

func (g *gateway) log() string {
	text, err := os.ReadFile(filepath.Join(g.folder, "serve.log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// kill ends the process at once.
func (g *gateway) kill() error {
	if g.process == nil {
		return nil
	}
	err := g.process.Process.Kill()
	<-g.ended
	g.process = nil
	return err
}

// end ends the process and removes its folder.
func (g *gateway) end() {
	err := errors.Join(g.kill(), os.RemoveAll(g.folder))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func (g *gateway) url() string {
	return "http://" + g.address
}

// withTenant makes a tenant that can work: a connection `embedded` to the embedded provider, and one key.
func (g *gateway) withTenant(name, key string) error {
	ctx := context.Background()
	operator, err := New(g.url(), WithTokenFile(g.tokenFile))
	if err != nil {
		return err
	}
	defer operator.Close()
	if _, err := operator.CreateTenant(ctx, name, CreateTenantOptions{}); err != nil {
		return err
	}
	tenant := operator.With(WithTenant(name))
	if _, err := tenant.CreateConnection(ctx, "embedded", LocalSettings{}, CreateConnectionOptions{}); err != nil {
		return err
	}
	_, err = tenant.CreateKey(ctx, key, "embedded", CreateKeyOptions{})
	return err
}

// connect makes a client, and closes it after the test.
func connect(t testing.TB, address string, options ...Option) *Client {
	t.Helper()
	client, err := New(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// operator is the platform operator.
func operator(t testing.TB, options ...Option) *Client {
	t.Helper()
	return connect(t, shared.url(), append(options, WithTokenFile(shared.tokenFile))...)
}

// acme is the platform operator, who acts for the tenant `acme`.
func acme(t testing.TB, options ...Option) *Client {
	t.Helper()
	return operator(t, append(options, WithTenant("acme"))...)
}

// unique is a name that no other test has, and no other run of this one.
func unique(t testing.TB) string {
	return strings.ToLower(fmt.Sprintf("%s-%s", strings.TrimPrefix(t.Name(), "Test"), rand.Text()[:8]))
}
