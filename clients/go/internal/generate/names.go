package main

import (
	"go/token"
	"strings"
	"unicode"
)

// spellings are the words that Go programs do not write with one capital.
var spellings = map[string]string{
	"aes": "AES", "aes256": "AES256", "approle": "AppRole", "arn": "ARN", "aws": "AWS", "ca": "CA", "chacha20": "ChaCha20", "dek": "DEK",
	"etag": "ETag", "fips": "FIPS", "gcm96": "GCM96", "gcp": "GCP", "hsm": "HSM", "id": "ID", "iv": "IV", "jwt": "JWT", "kmip": "KMIP",
	"ms": "MS", "ok": "OK", "openapi": "OpenAPI", "pkcs11": "PKCS11", "rsa": "RSA", "sigv4": "SigV4", "uri": "URI", "url": "URL", "x509": "X509",
	"xks": "XKS",
}

// exported makes an exported Go name of a name of the document: of a schema, an operation, a member or a word.
func exported(name string) string {
	made := new(strings.Builder)
	for _, part := range parts(name) {
		if spelled, ok := spellings[strings.ToLower(part)]; ok {
			made.WriteString(spelled)
		} else {
			made.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return made.String()
}

// unexported makes a Go name that begins with a small letter.
func unexported(name string) string {
	first := parts(name)[0]
	made := strings.ToLower(first) + exported(strings.TrimPrefix(name, first))
	if token.IsKeyword(made) {
		made += "_"
	}
	return made
}

// parts splits a name in snake case, kebab case or camel case.
func parts(name string) []string {
	var found []string
	for _, word := range strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		begin := 0
		for i := 1; i < len(word); i++ {
			capital := unicode.IsUpper(rune(word[i]))
			afterSmall := capital && !unicode.IsUpper(rune(word[i-1]))
			beforeSmall := capital && i+1 < len(word) && unicode.IsLower(rune(word[i+1]))
			if afterSmall || beforeSmall {
				found = append(found, word[begin:i])
				begin = i
			}
		}
		found = append(found, word[begin:])
	}
	return found
}
