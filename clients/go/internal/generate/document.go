package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// document is what the client needs of an OpenAPI document.
type document struct {
	Tags []struct {
		Name string `json:"name"`
	} `json:"tags"`
	// By path, then by method in lower case.
	Paths      map[string]map[string]*operation `json:"paths"`
	Components struct {
		Schemas    map[string]*schema   `json:"schemas"`
		Parameters map[string]parameter `json:"parameters"`
	} `json:"components"`
}

// operation is one call of the API.
type operation struct {
	ID          string          `json:"operationId"`
	Tags        []string        `json:"tags"`
	Parameters  []parameter     `json:"parameters"`
	RequestBody *body           `json:"requestBody"`
	Responses   map[string]body `json:"responses"`
	// Of an operation that takes no credential, an empty list.
	Security    *[]json.RawMessage `json:"security"`
	Idempotency string             `json:"x-idempotency"`
	Limits      struct {
		BodyBytes int `json:"body_bytes"`
	} `json:"x-limits"`
	method string
	path   string
}

type parameter struct {
	Ref         string  `json:"$ref"`
	Name        string  `json:"name"`
	In          string  `json:"in"`
	Description string  `json:"description"`
	Schema      *schema `json:"schema"`
}

// body is a request's or a response's.
type body struct {
	Content map[string]struct {
		Schema *schema `json:"schema"`
	} `json:"content"`
}

// schema is a JSON Schema, as far as the document uses it.
type schema struct {
	Ref         string             `json:"$ref"`
	Type        types              `json:"type"`
	Format      string             `json:"format"`
	Description string             `json:"description"`
	Properties  map[string]*schema `json:"properties"`
	Required    []string           `json:"required"`
	// Members that a batch item without an error has.
	WithoutError  []string          `json:"x-required-without-error"`
	Items         *schema           `json:"items"`
	Additional    json.RawMessage   `json:"additionalProperties"`
	OneOf         []*schema         `json:"oneOf"`
	Enum          []json.RawMessage `json:"enum"`
	Words         []string          `json:"x-extensible-enum"`
	Codes         []code            `json:"x-error-codes"`
	Secret        bool              `json:"x-secret"`
	NullRemoves   bool              `json:"x-null-removes"`
	MaxItems      int               `json:"maxItems"`
	Minimum       *int              `json:"minimum"`
	Discriminator struct {
		Mapping map[string]string `json:"mapping"`
	} `json:"discriminator"`
}

// code is an error code with what its problems have.
type code struct {
	Code      string `json:"code"`
	Status    int    `json:"status"`
	Retryable bool   `json:"retryable"`
	Title     string `json:"title"`
}

// types is one type, or several.
type types []string

func (t *types) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*t = types{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(t))
}

// is reports whether values are of the type, or null.
func (t types) is(name string) bool {
	return slices.Contains(t, name)
}

func read(file string) (*document, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	made := new(document)
	if err := json.Unmarshal(text, made); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for path, methods := range made.Paths {
		for method, operation := range methods {
			operation.method, operation.path = strings.ToUpper(method), path
		}
	}
	return made, nil
}

// operations returns all operations: those of each tag in the tags' order, by path and method.
func (d *document) operations() []*operation {
	var found []*operation
	for _, tag := range d.Tags {
		for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
			for _, method := range slices.Sorted(maps.Keys(d.Paths[path])) {
				if operation := d.Paths[path][method]; slices.Contains(operation.Tags, tag.Name) {
					found = append(found, operation)
				}
			}
		}
	}
	return found
}

// parameters returns the operation's parameters, resolved.
func (d *document) parameters(o *operation) []parameter {
	var found []parameter
	for _, one := range o.Parameters {
		if one.Ref != "" {
			one = d.Components.Parameters[last(one.Ref)]
		}
		found = append(found, one)
	}
	return found
}

// resolved follows a reference.
func (d *document) resolved(s *schema) *schema {
	if s != nil && s.Ref != "" {
		return d.Components.Schemas[last(s.Ref)]
	}
	return s
}

// named returns the schema and its name if it is a reference.
func (d *document) named(s *schema) (string, *schema) {
	if s == nil || s.Ref == "" {
		return "", s
	}
	return last(s.Ref), d.resolved(s)
}

// words returns the words of a list, which is closed in requests and open in responses.
func (s *schema) words() []string {
	if !s.Type.is("string") {
		return nil
	}
	found := slices.Clone(s.Words)
	for _, one := range s.Enum {
		var word string
		if json.Unmarshal(one, &word) == nil {
			found = append(found, word)
		}
	}
	return found
}

// members returns the names of the properties: the required ones in the document's order, then the others.
func (s *schema) members() []string {
	first := slices.Concat(s.Required, s.WithoutError)
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if !slices.Contains(first, name) {
			first = append(first, name)
		}
	}
	return first
}

// references returns the names of the schemas that this one names directly, in the order of its members.
func (s *schema) references() []string {
	if s == nil {
		return nil
	}
	var found []string
	if s.Ref != "" {
		found = append(found, last(s.Ref))
	}
	for _, name := range s.members() {
		found = append(found, s.Properties[name].references()...)
	}
	for _, one := range s.OneOf {
		found = append(found, one.references()...)
	}
	return append(found, s.Items.references()...)
}

// json returns the schema of a JSON body.
func (b body) json() *schema {
	return b.Content["application/json"].Schema
}

func last(reference string) string {
	return reference[strings.LastIndexByte(reference, '/')+1:]
}
