package claviger

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// must returns the value of a call that succeeds.
func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// succeeds fails the test if there is an error.
func succeeds(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// equal fails the test if the values differ.
func equal(t testing.TB, is, expected any) {
	t.Helper()
	if !reflect.DeepEqual(is, expected) {
		t.Fatalf("%#v, not %#v", is, expected)
	}
}

// contains fails the test if the text has no such part.
func contains(t testing.TB, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Fatalf("%q has no %q", text, part)
	}
}

// failed returns the error of a call, which is of a class.
func failed(t testing.TB, err error, class error) *Error {
	t.Helper()
	var found *Error
	if !errors.As(err, &found) {
		t.Fatalf("%v, and not an *Error", err)
	}
	if class != nil && !errors.Is(err, class) {
		t.Fatalf("%v, and not of the class %v", err, class)
	}
	return found
}
