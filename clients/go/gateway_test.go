package claviger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

var tableOrders = map[string]string{"table": "orders"}

// all returns the items of a list.
func all[T any](t testing.TB, list func(func(*T, error) bool)) []*T {
	t.Helper()
	var found []*T
	for item, err := range list {
		succeeds(t, err)
		found = append(found, item)
	}
	return found
}

func TestDataKeys(t *testing.T) {
	client, ctx := acme(t), t.Context()
	dataKey := must(client.GenerateDataKey(ctx, "orders", DataKeyOptions{Context: tableOrders}))(t)
	equal(t, []any{dataKey.Key, dataKey.Version, dataKey.Plaintext.Len(), dataKey.Wrapped[:5]}, []any{"orders", 1, 32, "clv1."})
	equal(t, dataKey.Meta.RequestID != "", true)
	contains(t, dataKey.Meta.AuditIndex, "#")
	again := must(client.Unwrap(ctx, dataKey.Wrapped, UnwrapOptions{Context: tableOrders}))(t)
	equal(t, again.Plaintext.Equal(dataKey.Plaintext), true)
	again = must(client.UnwrapWithKey(ctx, "orders", dataKey.Wrapped, UnwrapOptions{Context: tableOrders}))(t)
	equal(t, again.Plaintext.Expose(), dataKey.Plaintext.Expose())
	equal(t, must(client.GenerateDataKey(ctx, "orders", DataKeyOptions{Bytes: 64}))(t).Plaintext.Len(), 64)
	equal(t, must(client.GenerateDataKey(ctx, "orders", DataKeyOptions{Plaintext: Pointer(false)}))(t).Plaintext.IsZero(), true)
}

func TestNoDataKeyIsKept(t *testing.T) {
	client, ctx, name := acme(t), t.Context(), unique(t)
	must(client.CreateKey(ctx, name, "embedded", CreateKeyOptions{}))(t)
	dataKey := must(client.GenerateDataKey(ctx, name, DataKeyOptions{}))(t)
	equal(t, must(client.GenerateDataKey(ctx, name, DataKeyOptions{}))(t).Plaintext.Equal(dataKey.Plaintext), false)
	// Each use has its record.
	first := must(client.Unwrap(ctx, dataKey.Wrapped, UnwrapOptions{}))(t)
	second := must(client.Unwrap(ctx, dataKey.Wrapped, UnwrapOptions{}))(t)
	equal(t, []bool{first.Plaintext.Equal(second.Plaintext), first.Meta.AuditIndex == second.Meta.AuditIndex}, []bool{true, false})
	// What was opened a moment ago is not usable any more.
	must(client.DisableKey(ctx, name, DisableKeyOptions{}))(t)
	_, err := client.Unwrap(ctx, dataKey.Wrapped, UnwrapOptions{})
	failed(t, err, ErrKeyUnusable)
	failed(t, must(client.BatchUnwrap(ctx, []UnwrapItem{{Wrapped: dataKey.Wrapped}}))(t)[0].Error, ErrKeyUnusable)
	_, err = client.GenerateDataKey(ctx, name, DataKeyOptions{})
	failed(t, err, ErrKeyUnusable)
}

func TestWrongContextHasItsClass(t *testing.T) {
	client, ctx := acme(t), t.Context()
	wrapped := must(client.Wrap(ctx, "orders", NewSecret([]byte("0123456789")), WrapOptions{Context: tableOrders}))(t).Wrapped
	_, err := client.Unwrap(ctx, wrapped, UnwrapOptions{Context: map[string]string{"table": "invoices"}})
	found := failed(t, err, ErrCiphertextRejected)
	equal(t, []any{found.Code, found.Status, found.Retryable, found.Title}, []any{CodeCiphertextRejected, 422, false, "Ciphertext rejected"})
	equal(t, found.RequestID != "" && found.AuditIndex != "", true)
	_, err = client.Unwrap(ctx, "clv1.AAAA", UnwrapOptions{})
	failed(t, err, ErrInvalidEnvelope)
	failed(t, err, ErrInvalidRequest)
	inspected := must(client.Inspect(ctx, wrapped, UnwrapOptions{Context: tableOrders}))(t)
	equal(t, []any{inspected.Key, inspected.PlaintextLength, len(inspected.Recipients[0].Ciphertext) > 0}, []any{"orders", 10, true})
	equal(t, time.Since(inspected.Created).Abs() < 5*time.Minute, true)
}

func TestKeyLives(t *testing.T) {
	client, ctx, name := acme(t), t.Context(), unique(t)
	key := must(client.CreateKey(ctx, name, "embedded", CreateKeyOptions{
		Spec: SpecAES256, Labels: map[string]string{"env": "test"}, Cache: &CacheRules{Enabled: Pointer(true), MaxAge: time.Minute},
	}))(t)
	equal(t, []any{key.Cache.MaxAge, key.State, key.Spec, key.PrimaryVersion}, []any{time.Minute, KeyStateEnabled, SpecAES256, 1})
	wrapped := must(client.GenerateDataKey(ctx, name, DataKeyOptions{}))(t).Wrapped
	equal(t, must(client.RotateKey(ctx, name, RotateKeyOptions{}))(t).PrimaryVersion, 2)
	versions := all(t, client.ListKeyVersions(ctx, name, ListOptions{PageSize: 1}))
	equal(t, []int{versions[0].Number, versions[1].Number, len(versions)}, []int{1, 2, 2})
	rewrapped := must(client.Rewrap(ctx, name, wrapped, RewrapOptions{}))(t)
	equal(t, []any{rewrapped.Changed, rewrapped.Version}, []any{true, 2})
	key = must(client.GetKey(ctx, name))(t)
	changed := must(client.UpdateKey(ctx, name, key.ETag, UpdateKeyOptions{Labels: map[string]string{"env": "prod"}, Cache: &key.Cache}))(t)
	equal(t, changed.Labels, map[string]string{"env": "prod"})
	_, err := client.UpdateKey(ctx, name, key.ETag, UpdateKeyOptions{Labels: map[string]string{}})
	failed(t, err, ErrPreconditionFailed)
	equal(t, must(client.DisableKey(ctx, name, DisableKeyOptions{}))(t).State, KeyStateDisabled)
	_, err = client.Unwrap(ctx, rewrapped.Wrapped, UnwrapOptions{})
	equal(t, failed(t, err, ErrKeyUnusable).Code, CodeKeyDisabled)
	_, err = client.GenerateDataKey(ctx, name, DataKeyOptions{})
	equal(t, failed(t, err, ErrKeyUnusable).Code, CodeKeyDisabled)
	equal(t, must(client.DisableKey(ctx, name, DisableKeyOptions{AtProvider: true}))(t).AtProvider.Result, AtProviderResultDone)
	equal(t, must(client.EnableKey(ctx, name, EnableKeyOptions{AtProvider: true}))(t).State, KeyStateEnabled)
	succeeds(t, client.DeleteKey(ctx, name))
	_, err = client.GetKey(ctx, name)
	failed(t, err, ErrNotFound)
	detached := all(t, client.ListKeys(ctx, ListKeysOptions{State: KeyStateFilterDetached}))
	detached = slices.DeleteFunc(detached, func(found *Key) bool { return found.ID != key.ID })
	equal(t, detached[0].DetachedAt.After(key.Created), true)
	back := must(client.CreateKey(ctx, name, detached[0].Reattach.Connection, CreateKeyOptions{ProviderKey: detached[0].Reattach.ProviderKey}))(t)
	equal(t, back.ID, key.ID)
}

func TestListsArePagedToTheEnd(t *testing.T) {
	client, ctx, label := acme(t), t.Context(), unique(t)
	var names []string
	for i := range 7 {
		names = append(names, fmt.Sprintf("%s-%02d", label, i))
		must(client.CreateKey(ctx, names[i], "embedded", CreateKeyOptions{Labels: map[string]string{"test": label}}))(t)
	}
	for _, size := range []int{2, 7, 0} {
		var found []string
		for _, key := range all(t, client.ListKeys(ctx, ListKeysOptions{Label: "test=" + label, PageSize: size})) {
			found = append(found, key.Name)
		}
		equal(t, found, names)
	}
	keys := client.ListKeys(ctx, ListKeysOptions{Label: "test=" + label, PageSize: 1})
	for range 2 {
		// Each iteration begins again, and may end early.
		for key, err := range keys {
			succeeds(t, err)
			equal(t, key.Name, names[0])
			break
		}
	}
	equal(t, len(all(t, client.ListKeys(ctx, ListKeysOptions{Label: "test=none of it"}))), 0)
	count := 0
	for key, err := range client.ListKeys(ctx, ListKeysOptions{PageSize: 1001}) {
		count++
		equal(t, key == nil, true)
		equal(t, failed(t, err, ErrInvalidRequest).Places[0].Pointer, "query:page_size")
	}
	equal(t, count, 1)
}

func TestBatchWithBadItems(t *testing.T) {
	client, ctx, disabled := acme(t), t.Context(), unique(t)
	must(client.CreateKey(ctx, disabled, "embedded", CreateKeyOptions{}))(t)
	must(client.DisableKey(ctx, disabled, DisableKeyOptions{}))(t)
	generated := must(client.BatchGenerateDataKeys(ctx, []GenerateItem{
		{Key: "orders", Context: tableOrders}, {Key: disabled}, {Key: "orders", Bytes: 16},
	}))(t)
	failed(t, generated[1].Error, ErrKeyUnusable)
	equal(t, generated[1].AuditIndex != "", true)
	equal(t, []int{generated[0].Plaintext.Len(), generated[2].Plaintext.Len()}, []int{32, 16})
	wrapped := must(client.BatchWrap(ctx, []WrapItem{{Key: "orders", Plaintext: NewSecret([]byte("plain"))}}))(t)
	opened := must(client.BatchUnwrap(ctx, []UnwrapItem{
		{Wrapped: generated[0].Wrapped, Context: tableOrders}, {Wrapped: generated[0].Wrapped}, {Wrapped: wrapped[0].Wrapped, Key: "orders"},
	}))(t)
	equal(t, opened[0].Plaintext.Equal(generated[0].Plaintext), true)
	failed(t, opened[1].Error, ErrCiphertextRejected)
	equal(t, string(opened[2].Plaintext.Expose()), "plain")
	rewrapped := must(client.BatchRewrap(ctx, []RewrapItem{{Key: "orders", Wrapped: generated[0].Wrapped, Context: tableOrders}}))(t)
	equal(t, []any{rewrapped[0].Error == nil, rewrapped[0].Key}, []any{true, "orders"})
	_, err := client.BatchGenerateDataKeys(ctx, []GenerateItem{{Key: "No Name"}})
	failed(t, err, ErrInvalidRequest)
}

func TestMoreItemsThanARequestTakes(t *testing.T) {
	client, ctx := acme(t), t.Context()
	var items []WrapItem
	for i := range 1203 {
		items = append(items, WrapItem{Key: "orders", Plaintext: NewSecret([]byte(strconv.Itoa(i)))})
	}
	var wrapped []UnwrapItem
	for _, item := range must(client.BatchWrap(ctx, items))(t) {
		wrapped = append(wrapped, UnwrapItem{Wrapped: item.Wrapped})
	}
	for i, item := range must(client.BatchUnwrap(ctx, wrapped))(t) {
		equal(t, string(item.Plaintext.Expose()), strconv.Itoa(i))
	}
	equal(t, len(wrapped), 1203)
}

func TestConnectionLives(t *testing.T) {
	client, ctx, name := acme(t), t.Context(), unique(t)
	made := must(client.CreateConnection(ctx, name, LocalSettings{}, CreateConnectionOptions{Labels: map[string]string{"a": "b"}}))(t)
	equal(t, []any{made.Provider, made.State, made.Problem == nil}, []any{ProviderNameLocal, ConnectionStateActive, true})
	listed := slices.ContainsFunc(all(t, client.ListConnections(ctx, ListOptions{PageSize: 1})), func(c *Connection) bool { return c.Name == name })
	equal(t, listed, true)
	must(client.CreateKey(ctx, name, name, CreateKeyOptions{}))(t)
	wrapped := must(client.GenerateDataKey(ctx, name, DataKeyOptions{}))(t).Wrapped
	equal(t, must(client.CheckConnection(ctx, name))(t).Reachable, true)
	equal(t, must(client.GetConnectionCapabilities(ctx, name))(t).Keys[0].Spec.Known(), true)
	equal(t, must(client.SeverConnection(ctx, name))(t).State, ConnectionStateSevered)
	_, err := client.Unwrap(ctx, wrapped, UnwrapOptions{})
	equal(t, failed(t, err, ErrKeyUnusable).Code, CodeConnectionSevered)
	equal(t, must(client.RestoreConnection(ctx, name, RestoreConnectionOptions{}))(t).State, ConnectionStateActive)
	equal(t, must(client.Unwrap(ctx, wrapped, UnwrapOptions{}))(t).Key, name)
	changed := must(client.UpdateConnection(ctx, name, "*", UpdateConnectionOptions{Labels: map[string]string{}}))(t)
	equal(t, changed.Labels, map[string]string{})
	equal(t, must(client.GetConnection(ctx, name))(t).Name, name)
	equal(t, failed(t, client.DeleteConnection(ctx, name), ErrConflict).Code, CodeInUse)
	_, err = client.CreateConnection(ctx, name+"-aws", AWSSettings{Region: "eu", Auth: AWSAuth{Static: &AWSAccessKey{}}}, CreateConnectionOptions{})
	failed(t, err, ErrInvalidRequest)
}

func TestPrincipalsAndTokens(t *testing.T) {
	client, ctx, name := acme(t), t.Context(), unique(t)
	must(client.CreatePrincipal(ctx, name, CreatePrincipalOptions{Kind: PrincipalKindWorkload}))(t)
	equal(t, must(client.GetPrincipal(ctx, name))(t).Kind, PrincipalKindWorkload)
	token := must(client.CreateToken(ctx, name, []Operation{OperationGenerateDataKey, "Unwrap"}, CreateTokenOptions{
		Keys: []string{"orders"}, ExpiresIn: 24 * time.Hour, Kind: TokenKindStanding,
	}))(t)
	application := connect(t, shared.url(), WithToken(string(token.Token.Expose())))
	me := must(application.WhoAmI(ctx))(t)
	equal(t, []any{me.ID, me.Operator, me.Parent, me.Revoked.IsZero()}, []any{token.ID, false, "", true})
	equal(t, me.Operations, []Operation{OperationGenerateDataKey, OperationUnwrap})
	equal(t, (time.Until(me.Expires)-24*time.Hour).Abs() < 5*time.Minute, true)
	must(application.GenerateDataKey(ctx, "orders", DataKeyOptions{}))(t)
	_, err := application.GetKey(ctx, "orders")
	failed(t, err, ErrPermissionDenied)
	equal(t, all(t, client.ListTokens(ctx, name, ListOptions{}))[0].ID, token.ID)
	// The same request with the same key makes no second token, and the text is not kept.
	first := must(client.CreateToken(ctx, name, []Operation{OperationUnwrap}, CreateTokenOptions{IdempotencyKey: name}))(t)
	_, err = client.CreateToken(ctx, name, []Operation{OperationUnwrap}, CreateTokenOptions{IdempotencyKey: name})
	equal(t, failed(t, err, ErrAlreadyCreated).CreatedID, first.ID)
	failed(t, err, ErrConflict)
	succeeds(t, client.DeleteToken(ctx, name, token.ID))
	_, err = application.GenerateDataKey(ctx, "orders", DataKeyOptions{})
	failed(t, err, ErrUnauthenticated)
	succeeds(t, client.DeletePrincipal(ctx, name))
	succeeds(t, client.DeletePrincipal(ctx, name))
	equal(t, slices.ContainsFunc(all(t, client.ListPrincipals(ctx, ListOptions{})), func(p *Principal) bool { return p.Name == name }), false)
}

func TestTenantsAndTheService(t *testing.T) {
	client, ctx, name := operator(t, WithJustification("Ticket 4711")), t.Context(), unique(t)
	tenant := must(client.CreateTenant(ctx, name, CreateTenantOptions{}))(t)
	_, err := client.CreateTenant(ctx, name, CreateTenantOptions{})
	failed(t, err, ErrAlreadyExists)
	equal(t, must(client.GetTenant(ctx, name))(t).ID, tenant.ID)
	equal(t, must(client.SuspendTenant(ctx, name))(t).State, TenantStateSuspended)
	equal(t, must(client.ResumeTenant(ctx, name, ResumeTenantOptions{}))(t).State, TenantStateActive)
	equal(t, len(all(t, client.ListTenants(ctx, ListOptions{PageSize: 1}))) >= 2, true)
	other := client.With(WithTenant(name))
	equal(t, must(other.CreateConnection(ctx, "embedded", LocalSettings{}, CreateConnectionOptions{}))(t).Tenant, tenant.ID)
	equal(t, len(all(t, other.ListKeys(ctx, ListKeysOptions{}))), 0)
	equal(t, len(must(client.PlanDeclared(ctx))(t).Steps), 0)
	equal(t, must(client.ApplyDeclared(ctx))(t).AsDeclared, 0)
	failed(t, client.ReleaseDeclared(ctx, ReleasableKindKey, name, "no-key"), nil)
	equal(t, must(client.GetHealth(ctx))(t).Alive, true)
	equal(t, must(client.GetReadiness(ctx))(t).Ready, true)
	contains(t, must(client.GetMetrics(ctx))(t), "claviger")
	contains(t, string(must(client.GetOpenAPI(ctx))(t)), `"createKey"`)
}

func TestIdempotencyByTheCallersKey(t *testing.T) {
	client, ctx, name := acme(t), t.Context(), unique(t)
	create := func(spec Spec) (*Key, error) {
		return client.CreateKey(ctx, name, "embedded", CreateKeyOptions{Spec: spec, IdempotencyKey: name})
	}
	equal(t, must(create(SpecAES256))(t).ID, must(create(SpecAES256))(t).ID)
	_, err := create(SpecRSA3072)
	equal(t, failed(t, err, ErrConflict).Code, CodeIdempotencyMismatch)
}

// A gateway refuses a header that it cannot read, so both ends are tried.
func TestDeadlineIsTakenByTheGateway(t *testing.T) {
	client := acme(t)
	for _, timeout := range []time.Duration{shortestTimeout, 250 * time.Millisecond, longestTimeout} {
		_, err := client.With(WithTimeout(timeout)).GetKey(t.Context(), "orders")
		// A machine that is busy.
		if timeout < time.Second && (errors.Is(err, ErrDeadlineExceeded) || errors.Is(err, ErrGatewayUnreachable)) {
			continue
		}
		succeeds(t, err)
	}
}

func TestEnvironment(t *testing.T) {
	variables := map[string]string{"CLAVIGER_ADDRESS": "", "CLAVIGER_TOKEN_FILE": "", "CLAVIGER_TOKEN": "", "CLAVIGER_TENANT": ""}
	for name, value := range variables {
		t.Setenv(name, value)
	}
	_, err := FromEnv()
	isInvalid(t, err)
	contains(t, err.Error(), "CLAVIGER_ADDRESS")
	t.Setenv("CLAVIGER_ADDRESS", shared.url())
	_, err = FromEnv()
	contains(t, err.Error(), "CLAVIGER_TOKEN_FILE")
	token, failure := tokenFile{shared.tokenFile}.token(t.Context())
	equal(t, failure == nil, true)
	t.Setenv("CLAVIGER_TOKEN", string(token.Expose()))
	equal(t, must(must(FromEnv())(t).WhoAmI(t.Context()))(t).Operator, true)
	// As on the command line, the file goes before the text, and an option before both.
	t.Setenv("CLAVIGER_TOKEN", "other")
	t.Setenv("CLAVIGER_TOKEN_FILE", "/no/such/file")
	equal(t, must(must(FromEnv(WithToken(string(token.Expose()))))(t).WhoAmI(t.Context()))(t).Operator, true)
	t.Setenv("CLAVIGER_TOKEN_FILE", shared.tokenFile)
	t.Setenv("CLAVIGER_TENANT", "no-such-tenant")
	must(must(FromEnv(WithTenant("acme")))(t).GetKey(t.Context(), "orders"))(t)
	t.Setenv("CLAVIGER_TENANT", "acme")
	client := must(FromEnv(WithTimeout(time.Minute)))(t)
	must(client.GetKey(t.Context(), "orders"))(t)
	contains(t, fmt.Sprint(client), "127.0.0.1")
}

func TestViewsShareTheConnections(t *testing.T) {
	client, ctx := operator(t), t.Context()
	view := client.With(WithTenant("acme"), WithTimeout(time.Minute), WithRetries(0))
	must(view.GetKey(ctx, "orders"))(t)
	view.Close()
	must(client.With(WithTenant("acme")).GetKey(ctx, "orders"))(t)
	equal(t, must(view.With(WithTenant("")).WhoAmI(ctx))(t).Tenant, "00000000000000000000000000000000")
	equal(t, view.roundTripper == client.roundTripper, true)
}

func TestGoroutinesShareAClient(t *testing.T) {
	client := acme(t)
	wrapped := must(client.GenerateDataKey(t.Context(), "orders", DataKeyOptions{}))(t).Wrapped
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 10 {
				ctx, cancel := context.WithCancel(t.Context())
				if i%2 == 1 {
					// What is canceled in mid-flight leaves the client and its connections usable.
					time.AfterFunc(time.Duration(j)*time.Millisecond/4, cancel)
				}
				unwrapped, err := client.Unwrap(ctx, wrapped, UnwrapOptions{})
				if err == nil && unwrapped.Key != "orders" || err != nil && (i%2 == 0 || !errors.Is(err, context.Canceled)) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	group.Wait()
	equal(t, must(client.Unwrap(t.Context(), wrapped, UnwrapOptions{}))(t).Key, "orders")
}

func TestGatewayThatIsRestartedInMidFlight(t *testing.T) {
	g := must(startGateway())(t)
	defer g.end()
	succeeds(t, g.withTenant("acme", "orders"))
	// The same port again after the restart.
	g.environment = append(g.environment, "CLAVIGER_SERVER__LISTEN="+g.address)
	client := connect(t, g.url(), WithTokenFile(g.tokenFile), WithTenant("acme"), WithRetries(1_000_000), WithTimeout(2*time.Minute))
	client.jitter = func(time.Duration) time.Duration { return 10 * time.Millisecond }
	wrapped := must(client.GenerateDataKey(t.Context(), "orders", DataKeyOptions{}))(t).Wrapped
	restarted := make(chan error, 1)
	go func() {
		err := g.kill()
		time.Sleep(100 * time.Millisecond)
		restarted <- errors.Join(err, g.serve())
	}()
	calls := 0
	for again := 3; again > 0; calls++ {
		equal(t, must(client.Unwrap(t.Context(), wrapped, UnwrapOptions{}))(t).Key, "orders")
		must(client.CreatePrincipal(t.Context(), fmt.Sprintf("p%d", calls), CreatePrincipalOptions{}))(t)
		select {
		case err := <-restarted:
			succeeds(t, err)
			restarted = nil
		default:
		}
		if restarted == nil {
			again--
		}
	}
	equal(t, len(all(t, client.ListPrincipals(t.Context(), ListOptions{}))), calls)
}
