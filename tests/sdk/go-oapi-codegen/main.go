// What an application does with Claviger, by the client that oapi-codegen makes.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
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
func connect(address string) *api.ClientWithResponses {
	token, err := os.ReadFile(os.Getenv("CLAVIGER_TOKEN_FILE"))
	check(err)
	headers := func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+string(bytes.TrimSpace(token)))
		request.Header.Set("Claviger-Tenant", os.Getenv("CLAVIGER_TENANT"))
		return nil
	}
	sender := retrying{http.Client{Timeout: 30 * time.Second}}
	client, err := api.NewClientWithResponses(address, api.WithHTTPClient(&sender), api.WithRequestEditorFn(headers))
	check(err)
	return client
}

// retrying repeats a request as long as the gateway says that the same one may succeed later.
type retrying struct{ http.Client }

func (r *retrying) Do(request *http.Request) (*http.Response, error) {
	for attempt := 1; ; attempt++ {
		response, err := r.Client.Do(request)
		if err != nil || response.StatusCode < 400 || attempt == attempts {
			return response, err
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return nil, err
		}
		response.Body = io.NopCloser(bytes.NewReader(body))
		var problem api.Problem
		if json.Unmarshal(body, &problem) != nil || !problem.Retryable {
			return response, nil
		}
		seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
		if err != nil {
			seconds = 1
		}
		time.Sleep(time.Duration(seconds) * time.Second)
		if request.GetBody != nil {
			if request.Body, err = request.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// reply is what the client makes of a response: what the operation returns, or the gateway's problem.
type reply interface {
	GetApplicationproblemJSONDefault() *api.Problem
	Status() string
}

// must ends the program if the gateway refused the request.
func must[R reply](r R, err error) R {
	check(err)
	if problem := r.GetApplicationproblemJSONDefault(); problem != nil {
		log.Fatalf("%s: %s", problem.Code, problem.Detail)
	}
	return r
}

// codeOf returns the code of the problem that a call ended in; "" if it succeeded.
func codeOf[R reply](r R, err error) string {
	check(err)
	if problem := r.GetApplicationproblemJSONDefault(); problem != nil {
		return problem.Code
	}
	return ""
}

// results takes a batch's two items apart: a result and an error.
func results(batch *api.BatchUnwrapResponse) (api.UnwrapItemResult, api.Problem) {
	good, bad := batch.JSON200.Items[0], batch.JSON200.Items[1]
	if good.Error != nil || bad.Error == nil {
		log.Fatal("batch: not a result and an error")
	}
	return good, *bad.Error
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
	done("connect", must(client.WhoAmIWithResponse(ctx, nil)).JSON200.Operator)

	// A creation may be repeated safely with an idempotency key, which is sent from the first attempt on.
	once := rand.Text()
	created := must(client.CreateKeyWithResponse(ctx, &api.CreateKeyParams{IdempotencyKey: &once}, api.CreateKey{Name: "invoices", Connection: "embedded"}))
	done("key", created.JSON201.State == "enabled")

	pairs := api.ContextPairs{"table": "invoices"}
	made := must(client.GenerateDataKeyWithResponse(ctx, "invoices", nil, api.GenerateDataKeyRequest{Context: &pairs})).JSON200
	done("data-key", len(*made.Plaintext) == 32)

	request := api.UnwrapRequest{Wrapped: made.Wrapped, Context: &pairs}
	opened := must(client.UnwrapWithResponse(ctx, nil, request)).JSON200
	done("unwrap", bytes.Equal(opened.Plaintext, *made.Plaintext))

	other := api.UnwrapRequest{Wrapped: made.Wrapped, Context: &api.ContextPairs{"table": "orders"}}
	done("context", codeOf(client.UnwrapWithResponse(ctx, nil, other)) == "ciphertext_rejected")

	items := api.BatchUnwrapRequest{Items: []api.UnwrapItem{{Wrapped: made.Wrapped, Context: &pairs}, {Wrapped: made.Wrapped}}}
	good, bad := results(must(client.BatchUnwrapWithResponse(ctx, nil, items)))
	done("batch", bytes.Equal(*good.Plaintext, *made.Plaintext) && bad.Code == "ciphertext_rejected")

	var names []string
	size := int32(2)
	for list := (api.ListKeysParams{PageSize: &size}); ; {
		page := must(client.ListKeysWithResponse(ctx, &list)).JSON200
		for _, key := range page.Items {
			names = append(names, key.Name)
		}
		if page.NextPageToken == nil {
			break
		}
		list.PageToken = page.NextPageToken
	}
	done("paging", slices.Equal(names, []string{"first", "fourth", "invoices", "second", "third"}))

	rotated := must(client.RotateKeyWithResponse(ctx, "invoices", nil, api.RotateKey{}))
	done("rotate", rotated.JSON200.PrimaryVersion == 2)

	must(client.DisableKeyWithResponse(ctx, "invoices", nil, api.SetKeyState{}))
	done("disable", codeOf(client.UnwrapWithResponse(ctx, nil, request)) == "key_disabled")

	// `{}` above; without a body, and with `null`, here.
	enabled := must(client.EnableKeyWithBodyWithResponse(ctx, "invoices", nil, "application/json", http.NoBody))
	disabled := must(client.DisableKeyWithBodyWithResponse(ctx, "invoices", nil, "application/json", bytes.NewBufferString("null")))
	done("no-body", enabled.JSON200.State == "enabled" && disabled.JSON200.State == "disabled")

	// A gateway that is busy, and one of a later release, whose answers have members, codes and words that this client does not know.
	client = connect(os.Getenv("CLAVIGER_STUB_ADDRESS"))
	done("retry", must(client.UnwrapWithResponse(ctx, nil, api.UnwrapRequest{Wrapped: "clv1.busy"})).JSON200.Version == 1)

	later := must(client.GetKeyWithResponse(ctx, "later", nil)).JSON200
	good, bad = results(must(client.BatchUnwrapWithResponse(ctx, nil, items)))
	code := codeOf(client.GetKeyWithResponse(ctx, "refused", nil))
	done("unknown", later.Name == "later" && *good.Key == "later" && bad.Code == code && code == "refused_by_a_later_release")

	quarantined := must(client.GetKeyWithResponse(ctx, "quarantined", nil)).JSON200
	done("word", quarantined.State == "quarantined")
}
