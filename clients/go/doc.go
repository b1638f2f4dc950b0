// Package claviger calls a Claviger gateway, which wraps and unwraps data keys at key-management services.
//
//	client, err := claviger.New("https://claviger.example:8420", claviger.WithTokenFile("app.token"))
//	...
//	dataKey, err := client.GenerateDataKey(ctx, "orders", claviger.DataKeyOptions{Context: map[string]string{"table": "orders"}})
//	...
//	encrypt(dataKey.Plaintext.Expose(), ...) // and store dataKey.Wrapped beside the result
//
// A call that fails returns an [*Error], which is of a class such as [ErrKeyUnusable]. What a field's comment calls null
// or absent is its zero value here.
package claviger

//go:generate go run ./internal/generate
