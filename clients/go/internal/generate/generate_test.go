package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// The files in the repository are what the document says.
func TestGenerated(t *testing.T) {
	texts, err := generated("../../../../openapi/claviger.json")
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob("../../" + prefix + "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for i, file := range found {
		found[i] = filepath.Base(file)
	}
	if expected := slices.Sorted(maps.Keys(texts)); !slices.Equal(found, expected) {
		t.Errorf("the files are %v, not %v: run go generate", found, expected)
	}
	for name, text := range texts {
		if is, err := os.ReadFile("../../" + name); err != nil || !bytes.Equal(is, text) {
			t.Errorf("%s is not what the document says: run go generate", name)
		}
		if lines := bytes.Count(text, []byte("\n")); lines > 500 {
			t.Errorf("%s has %d lines, more than 500", name, lines)
		}
	}
}

func TestNames(t *testing.T) {
	for name, expected := range map[string]string{
		"createKey": "CreateKey", "whoAmI": "WhoAmI", "getOpenapi": "GetOpenAPI", "aes-256": "AES256", "aes256-gcm96": "AES256GCM96",
		"A256KW": "A256KW", "key_id": "KeyID", "AwsAccessKey": "AWSAccessKey", "auth_provider_x509_cert_url": "AuthProviderX509CertURL",
		"GenerateDataKeyWithoutPlaintext": "GenerateDataKeyWithoutPlaintext", "XksSigv4": "XKSSigV4",
	} {
		if made := exported(name); made != expected {
			t.Errorf("%s becomes %s, not %s", name, made, expected)
		}
	}
}
