package claviger_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	claviger "github.com/claviger/claviger/clients/go"
)

// The programs of the README, which these examples repeat, run against a gateway of their own: the variables of the
// environment lead to it.

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleNew() {
	client, err := claviger.New("https://claviger.example:8420",
		claviger.WithTokenFile("/run/secrets/claviger.token"), // or WithToken, or WithTokenFunc with a function that returns one
		claviger.WithTenant("acme"),                           // platform operators only
		claviger.WithTimeout(10*time.Second),                  // for each call with all its retries
	)
	check(err)
	defer client.Close()
	fmt.Println(client)
	// Output: claviger.Client(https://claviger.example:8420)
}

func ExampleFromEnv() {
	client, err := claviger.FromEnv()
	check(err)
	key, err := client.GetKey(context.Background(), "orders")
	check(err)
	fmt.Println(key.Name, key.State)
	// Output: orders enabled
}

func ExampleClient_BatchUnwrap() {
	client, err := claviger.FromEnv()
	check(err)
	ctx, table := context.Background(), map[string]string{"table": "orders"}
	dataKey, err := client.GenerateDataKey(ctx, "orders", claviger.DataKeyOptions{Context: table})
	check(err)

	results, err := client.BatchUnwrap(ctx, []claviger.UnwrapItem{{Wrapped: dataKey.Wrapped}, {Wrapped: dataKey.Wrapped, Context: table}})
	check(err)
	for _, result := range results {
		if result.Error != nil {
			fmt.Println(result.Error.Code) // ciphertext_rejected: the context is missing
		} else {
			fmt.Println(result.Plaintext.Equal(dataKey.Plaintext))
		}
	}
	// Output:
	// ciphertext_rejected
	// true
}

func ExampleError() {
	client, err := claviger.FromEnv()
	check(err)
	ctx, table := context.Background(), map[string]string{"table": "orders"}
	_, err = client.CreateKey(ctx, "vectors", "embedded", claviger.CreateKeyOptions{})
	check(err)
	dataKey, err := client.GenerateDataKey(ctx, "vectors", claviger.DataKeyOptions{Context: table})
	check(err)

	_, err = client.DisableKey(ctx, "vectors", claviger.DisableKeyOptions{})
	check(err)
	_, err = client.Unwrap(ctx, dataKey.Wrapped, claviger.UnwrapOptions{Context: table})
	var failure *claviger.Error
	switch {
	case errors.Is(err, claviger.ErrKeyUnusable) && errors.As(err, &failure):
		fmt.Println(failure.Code) // key_disabled: its owner switched it off
	case errors.Is(err, claviger.ErrCiphertextRejected):
		fmt.Println("another context, key or tenant")
	default:
		fmt.Println(err) // with what to do, and the id of the request
	}

	check(client.DeleteKey(ctx, "vectors"))
	// Output: key_disabled
}

func ExampleEncryptFile() {
	client, err := claviger.FromEnv()
	check(err)
	ctx, table := context.Background(), map[string]string{"table": "orders"}
	folder, err := os.MkdirTemp("", "claviger-example-")
	check(err)
	before, err := os.Getwd()
	check(err)
	check(os.Chdir(folder))
	defer func() { check(errors.Join(os.Chdir(before), os.RemoveAll(folder))) }()
	check(os.WriteFile("report.txt", []byte("content"), 0o600))

	err = claviger.EncryptFile(ctx, client, "orders", "report.txt", "report.txt.clv", claviger.EncryptOptions{Context: table})
	check(err)
	err = claviger.DecryptFile(ctx, client, "report.txt.clv", "again.txt", claviger.DecryptOptions{Context: table})
	check(err)

	again, err := os.ReadFile("again.txt")
	check(err)
	fmt.Println(string(again))
	// Output: content
}

// What is read from the pipe is encrypted while it is sent.
func ExampleEncrypt() {
	client, err := claviger.FromEnv()
	check(err)
	ctx := context.Background()
	encrypted, target := io.Pipe()
	go func() {
		target.CloseWithError(claviger.Encrypt(ctx, client, "orders", target, strings.NewReader("content"), claviger.EncryptOptions{}))
	}()
	// Discard the content if there is an error: it may be a part.
	content := new(strings.Builder)
	check(claviger.Decrypt(ctx, client, content, encrypted, claviger.DecryptOptions{}))
	fmt.Println(content)
	// Output: content
}

func ExampleClient_ListKeys() {
	client, err := claviger.FromEnv()
	check(err)
	for key, err := range client.ListKeys(context.Background(), claviger.ListKeysOptions{Connection: "embedded"}) {
		check(err)
		// A state that this release of the client does not know is not usable either.
		if key.State == claviger.KeyStateEnabled && key.Name == "orders" {
			fmt.Println(key.Custody, key.Spec)
			break
		}
	}
	// Output: provider aes-256
}

func ExampleClient_With() {
	client, err := claviger.FromEnv()
	check(err)
	auditor := client.With(claviger.WithJustification("Ticket 4711"), claviger.WithTimeout(2*time.Minute))
	caller, err := auditor.WhoAmI(context.Background())
	check(err)
	fmt.Println(caller.Operator)
	// Output: true
}
