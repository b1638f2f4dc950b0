// What an application does with Claviger, by the client that openapi-generator makes for Go.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"example.com/claviger/api"
)

const attempts = 4

// connect makes a client for the gateway at an address such as https://gateway.example:8420.
func connect(address string) *api.APIClient {
	token, err := os.ReadFile(os.Getenv("CLAVIGER_TOKEN_FILE"))
	check(err)
	configuration := api.NewConfiguration()
	configuration.Servers = api.ServerConfigurations{{URL: address}}
	configuration.AddDefaultHeader("Authorization", "Bearer "+string(bytes.TrimSpace(token)))
	configuration.AddDefaultHeader("Claviger-Tenant", os.Getenv("CLAVIGER_TENANT"))
	configuration.HTTPClient = &http.Client{Timeout: 30 * time.Second}
	return api.NewAPIClient(configuration)
}

// retrying repeats a call as long as the gateway says that the same request may succeed later.
func retrying[T any](call func() (T, *http.Response, error)) (T, error) {
	for attempt := 1; ; attempt++ {
		answer, response, err := call()
		problem := problemOf(err)
		if problem == nil || !problem.Retryable || attempt == attempts {
			return answer, err
		}
		seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
		if err != nil {
			seconds = 1
		}
		time.Sleep(time.Duration(seconds) * time.Second)
	}
}

// problemOf returns what the gateway refused a call with, or nil.
func problemOf(err error) *api.Problem {
	var refused *api.GenericOpenAPIError
	if errors.As(err, &refused) {
		if problem, ok := refused.Model().(api.Problem); ok {
			return &problem
		}
	}
	return nil
}

func codeOf(err error) string {
	if problem := problemOf(err); problem != nil {
		return problem.Code
	}
	return fmt.Sprint(err)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func done(step string, holds bool) {
	if !holds {
		log.Fatalf("%s: not what was expected", step)
	}
	fmt.Println("ok", step)
}

func main() {
	ctx := context.Background()
	client := connect(os.Getenv("CLAVIGER_ADDRESS"))
	caller, err := retrying(client.AccessAPI.WhoAmI(ctx).Execute)
	check(err)
	done("connect", caller.Operator)

	// A creation may be repeated safely with an idempotency key, which is sent from the first attempt on.
	key, err := retrying(client.KeysAPI.CreateKey(ctx).CreateKey(*api.NewCreateKey("embedded", "invoices")).IdempotencyKey(rand.Text()).Execute)
	check(err)
	done("key", key.State == "enabled")

	pairs := map[string]string{"table": "invoices"}
	made, err := retrying(client.DataKeysAPI.GenerateDataKey(ctx, "invoices").GenerateDataKeyRequest(api.GenerateDataKeyRequest{Context: pairs}).Execute)
	check(err)
	plaintext, err := base64.StdEncoding.DecodeString(made.GetPlaintext())
	check(err)
	done("data-key", len(plaintext) == 32)

	unwrap := client.DataKeysAPI.Unwrap(ctx).UnwrapRequest(api.UnwrapRequest{Wrapped: made.Wrapped, Context: pairs})
	opened, err := retrying(unwrap.Execute)
	check(err)
	done("unwrap", opened.Plaintext == made.GetPlaintext())

	other := api.UnwrapRequest{Wrapped: made.Wrapped, Context: map[string]string{"table": "orders"}}
	_, err = retrying(client.DataKeysAPI.Unwrap(ctx).UnwrapRequest(other).Execute)
	done("context", codeOf(err) == "ciphertext_rejected")

	items := []api.UnwrapItem{{Wrapped: made.Wrapped, Context: pairs}, {Wrapped: made.Wrapped}}
	batch, err := retrying(client.BatchAPI.BatchUnwrap(ctx).BatchUnwrapRequest(*api.NewBatchUnwrapRequest(items)).Execute)
	check(err)
	good, bad := batch.Items[0], batch.Items[1]
	done("batch", good.GetPlaintext() == opened.Plaintext && bad.Error.Code == "ciphertext_rejected")

	var names []string
	for list := client.KeysAPI.ListKeys(ctx).PageSize(2); ; {
		page, err := retrying(list.Execute)
		check(err)
		for _, key := range page.Items {
			names = append(names, key.Name)
		}
		if page.NextPageToken == nil {
			break
		}
		list = list.PageToken(*page.NextPageToken)
	}
	done("paging", slices.Equal(names, []string{"first", "fourth", "invoices", "second", "third"}))

	key, err = retrying(client.KeysAPI.RotateKey(ctx, "invoices").Execute)
	check(err)
	done("rotate", key.PrimaryVersion == 2)

	// The client sends `null` where a body is left out.
	_, err = retrying(client.KeysAPI.DisableKey(ctx, "invoices").Execute)
	check(err)
	_, err = retrying(unwrap.Execute)
	done("disable", codeOf(err) == "key_disabled")

	enabled, err := retrying(client.KeysAPI.EnableKey(ctx, "invoices").SetKeyState(*api.NewSetKeyState()).Execute)
	check(err)
	disabled, err := retrying(client.KeysAPI.DisableKey(ctx, "invoices").SetKeyState(*api.NewSetKeyState()).Execute)
	check(err)
	done("no-body", enabled.State == "enabled" && disabled.State == "disabled")

	// A gateway that is busy, and one of a later release, whose answers have members, codes and words that this client does not know.
	client = connect(os.Getenv("CLAVIGER_STUB_ADDRESS"))
	opened, err = retrying(client.DataKeysAPI.Unwrap(ctx).UnwrapRequest(*api.NewUnwrapRequest("clv1.busy")).Execute)
	check(err)
	done("retry", opened.Version == 1)

	key, err = retrying(client.KeysAPI.GetKey(ctx, "later").Execute)
	check(err)
	batch, err = retrying(client.BatchAPI.BatchUnwrap(ctx).BatchUnwrapRequest(*api.NewBatchUnwrapRequest(items)).Execute)
	check(err)
	good, bad = batch.Items[0], batch.Items[1]
	_, err = retrying(client.KeysAPI.GetKey(ctx, "refused").Execute)
	code := "refused_by_a_later_release"
	done("unknown", key.Name == "later" && good.GetKey() == "later" && bad.Error.Code == code && codeOf(err) == code)

	key, err = retrying(client.KeysAPI.GetKey(ctx, "quarantined").Execute)
	check(err)
	done("word", key.State == "quarantined")
}
