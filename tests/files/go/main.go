// Encrypts or decrypts a file with the Go client: files encrypt|decrypt SOURCE TARGET
package main

import (
	"context"
	"log"
	"os"

	claviger "github.com/claviger/claviger/clients/go"
)

func main() {
	client, err := claviger.FromEnv()
	check(err)
	ctx, table := context.Background(), map[string]string{"table": "orders"}
	if os.Args[1] == "encrypt" {
		check(claviger.EncryptFile(ctx, client, "orders", os.Args[2], os.Args[3], claviger.EncryptOptions{Context: table}))
	} else {
		check(claviger.DecryptFile(ctx, client, os.Args[2], os.Args[3], claviger.DecryptOptions{Context: table}))
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
