// Command vectors is a small vector store for many customers, each with a key of their own.
//
//	vectors join CUSTOMER CONNECTION    makes the customer's key
//	vectors add CUSTOMER                stores vectors from the input: {"id": "red", "values": [1, 0, 0]} in each line
//	vectors search CUSTOMER QUERY       prints the three vectors most similar to the query, such as [0.9, 0.1, 0]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	claviger "github.com/claviger/claviger/clients/go"
)

// Exit codes.
const (
	failed       = 1
	usage        = 2
	keyIsOff     = 3
	storeFolder  = "store"
	resultsShown = 3
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "vectors join CUSTOMER CONNECTION | add CUSTOMER | search CUSTOMER QUERY")
		os.Exit(usage)
	}
	err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3:])
	switch {
	case errors.Is(err, claviger.ErrKeyUnusable):
		fmt.Fprintf(os.Stderr, "vectors: the key of %s is switched off, so nothing of theirs can be read or added: %v\n", os.Args[2], err)
		os.Exit(keyIsOff)
	case err != nil:
		fmt.Fprintln(os.Stderr, "vectors:", err)
		os.Exit(failed)
	}
}

func run(ctx context.Context, command, customer string, rest []string) error {
	client, err := claviger.FromEnv()
	if err != nil {
		return err
	}
	store := &Store{client, storeFolder}
	switch {
	case command == "join" && len(rest) == 1:
		return store.Join(ctx, customer, rest[0])
	case command == "add" && len(rest) == 0:
		return add(ctx, store, customer, os.Stdin)
	case command == "search" && len(rest) == 1:
		return search(ctx, store, customer, rest[0])
	}
	return fmt.Errorf("no command %q with %d more arguments", command, len(rest))
}

func add(ctx context.Context, store *Store, customer string, lines io.Reader) error {
	var vectors []Vector
	for input := json.NewDecoder(lines); ; {
		var vector Vector
		err := input.Decode(&vector)
		if err == io.EOF {
			return store.Add(ctx, customer, vectors)
		}
		if err != nil {
			return fmt.Errorf("vector %d: %w", len(vectors)+1, err)
		}
		vectors = append(vectors, vector)
	}
}

func search(ctx context.Context, store *Store, customer, text string) error {
	var query []float64
	if err := json.Unmarshal([]byte(text), &query); err != nil {
		return fmt.Errorf("the query: %w", err)
	}
	matches, err := store.Search(ctx, customer, query, resultsShown)
	for _, match := range matches {
		fmt.Printf("%.3f %s\n", match.Similarity, match.ID)
	}
	return err
}
