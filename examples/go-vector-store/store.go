package main

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	claviger "github.com/claviger/claviger/clients/go"
)

// Store keeps the vectors of many customers in a folder. Each call of Add writes a segment, which is encrypted with a data key of
// its own. The data keys of a customer's segments are wrapped by the customer's own key.
type Store struct {
	client *claviger.Client
	folder string
}

// Vector is a point with the name of what it stands for.
type Vector struct {
	ID     string    `json:"id"`
	Values []float64 `json:"values"`
}

// Match is a vector found, and the cosine of its angle to the query.
type Match struct {
	ID         string
	Similarity float64
}

// A segment as it is stored: Sealed is the JSON of its vectors, encrypted with AES-256-GCM, behind the nonce.
type segment struct {
	Name    string `json:"name"`
	Wrapped string `json:"wrapped"`
	Sealed  []byte `json:"sealed"`
}

// context binds a data key to its customer and segment, so that no file opens in the place of another.
func (s segment) context(customer string) map[string]string {
	return map[string]string{"customer": customer, "segment": s.Name}
}

func keyOf(customer string) string { return "customer-" + customer }

var customerName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,49}$`)

// Join makes a customer's key. The connection says who holds it: the customer, if it is one to the customer's own key service.
func (s *Store) Join(ctx context.Context, customer, connection string) error {
	if !customerName.MatchString(customer) {
		return fmt.Errorf("a customer's name matches %v", customerName)
	}
	_, err := s.client.CreateKey(ctx, keyOf(customer), connection, claviger.CreateKeyOptions{})
	if err != nil && !errors.Is(err, claviger.ErrAlreadyExists) {
		return err
	}
	return os.MkdirAll(filepath.Join(s.folder, customer), 0o700)
}

// Add stores vectors of a customer as a new segment.
func (s *Store) Add(ctx context.Context, customer string, vectors []Vector) error {
	made := segment{Name: rand.Text()}
	dataKey, err := s.client.GenerateDataKey(ctx, keyOf(customer), claviger.DataKeyOptions{Context: made.context(customer)})
	if err != nil {
		return err
	}
	defer dataKey.Plaintext.Destroy()
	plain, err := json.Marshal(vectors)
	if err != nil {
		return err
	}
	aead, err := newAEAD(dataKey.Plaintext)
	if err != nil {
		return err
	}
	made.Wrapped, made.Sealed = dataKey.Wrapped, aead.Seal(nil, nil, plain, nil)
	file, err := json.Marshal(made)
	if err != nil {
		return err
	}
	// A reader sees all of a segment, or none of it.
	path := filepath.Join(s.folder, customer, made.Name)
	if err := os.WriteFile(path+".part", file, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".part", path+".json")
}

// Search returns the customer's n vectors most similar to the query. It unwraps each segment's data key and forgets it: the next
// search asks the gateway again, so it fails once the customer has disabled their key. It fails, too, if a segment does not open.
func (s *Store) Search(ctx context.Context, customer string, query []float64, n int) ([]Match, error) {
	segments, err := s.segments(customer)
	if err != nil {
		return nil, err
	}
	items := make([]claviger.UnwrapItem, len(segments))
	for i, segment := range segments {
		items[i] = claviger.UnwrapItem{Key: keyOf(customer), Wrapped: segment.Wrapped, Context: segment.context(customer)}
	}
	dataKeys, err := s.client.BatchUnwrap(ctx, items)
	defer func() {
		for _, dataKey := range dataKeys {
			dataKey.Plaintext.Destroy()
		}
	}()
	if err != nil {
		return nil, err
	}
	var matches []Match
	for i, segment := range segments {
		if dataKeys[i].Error != nil {
			return nil, fmt.Errorf("segment %s: %w", segment.Name, dataKeys[i].Error)
		}
		vectors, err := segment.open(dataKeys[i].Plaintext)
		if err != nil {
			return nil, fmt.Errorf("segment %s: %w", segment.Name, err)
		}
		for _, vector := range vectors {
			if len(vector.Values) != len(query) {
				return nil, fmt.Errorf("the query has %d values, and the vector %s has %d", len(query), vector.ID, len(vector.Values))
			}
			matches = append(matches, Match{vector.ID, cosine(vector.Values, query)})
		}
	}
	slices.SortFunc(matches, func(a, b Match) int { return cmp.Compare(b.Similarity, a.Similarity) })
	return matches[:min(n, len(matches))], nil
}

// segments reads a customer's segments, still encrypted.
func (s *Store) segments(customer string) ([]segment, error) {
	if !customerName.MatchString(customer) {
		return nil, fmt.Errorf("a customer's name matches %v", customerName)
	}
	paths, err := fs.Glob(os.DirFS(s.folder), customer+"/*.json")
	if err != nil {
		return nil, err
	}
	segments := make([]segment, len(paths))
	for i, path := range paths {
		file, err := os.ReadFile(filepath.Join(s.folder, path))
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(file, &segments[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return segments, nil
}

func (s segment) open(dataKey claviger.Secret) ([]Vector, error) {
	aead, err := newAEAD(dataKey)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, s.Sealed, nil)
	if err != nil {
		return nil, errors.New("its content was changed")
	}
	var vectors []Vector
	return vectors, json.Unmarshal(plain, &vectors)
}

// newAEAD returns AES-256-GCM with a random nonce in front of what it seals.
func newAEAD(dataKey claviger.Secret) (cipher.AEAD, error) {
	block, err := aes.NewCipher(dataKey.Expose())
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func cosine(a, b []float64) float64 {
	var product, lengthA, lengthB float64
	for i := range a {
		product += a[i] * b[i]
		lengthA += a[i] * a[i]
		lengthB += b[i] * b[i]
	}
	return product / math.Sqrt(lengthA*lengthB)
}
