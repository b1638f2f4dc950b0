package claviger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

const (
	// Longer than any JWT that a gateway takes, in bytes.
	longestToken = 16 << 10
	// `clv_`, 12 characters, `_`, 43 characters of secret and 6 of checksum.
	apiTokenLength = 66
)

// tokenSource returns the token of now. Nothing is kept: a token that is replaced is used from the next request on.
type tokenSource interface {
	token(ctx context.Context) (Secret, *Error)

	// changes reports whether the next token may be another one.
	changes() bool
}

// fixedToken is a token as text.
type fixedToken struct{ secret Secret }

func (f fixedToken) token(context.Context) (Secret, *Error) { return f.secret, nil }
func (f fixedToken) changes() bool                          { return false }

// tokenFile is a file with an API token or a JWT, read for every request.
//
// Reading takes a few microseconds. Comparing the time of the last change instead would miss a second change within the
// clock's resolution.
type tokenFile struct{ path string }

func (f tokenFile) changes() bool { return true }

func (f tokenFile) token(context.Context) (Secret, *Error) {
	text, err := f.read()
	reason := "it is empty or not whole"
	if err == nil {
		made, failed := parseToken(text)
		if failed == nil {
			return made, nil
		}
	} else if reason = err.Error(); errors.As(err, new(*fs.PathError)) {
		reason = errors.Unwrap(err).Error()
	}
	return Secret{}, &Error{
		Code:     CodeTokenUnusable,
		Title:    "Token unusable",
		Detail:   fmt.Sprintf("The token file %s cannot be used: %s.", f.path, reason),
		WhatToDo: "Write the token to the file, as one line, and let this user read it. To replace it, write another file and rename it.",
		// It may be about to be replaced.
		Retryable: true,
		cause:     err,
	}
}

func (f tokenFile) read() (string, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(file, longestToken+1))
	return string(text), errors.Join(err, file.Close())
}

// tokenFunction is a function of the caller's.
type tokenFunction func(ctx context.Context) (string, error)

func (f tokenFunction) changes() bool { return true }

func (f tokenFunction) token(ctx context.Context) (Secret, *Error) {
	text, err := f(ctx)
	if err != nil {
		return Secret{}, &Error{
			Code:     CodeTokenUnusable,
			Title:    "Token unusable",
			Detail:   fmt.Sprintf("The function that returns the token failed: %s.", strings.TrimRight(err.Error(), ".")),
			WhatToDo: "Correct what the function needs.",
			cause:    err,
		}
	}
	return parseToken(text)
}

// parseToken checks the form of a token. White space around it does not count.
//
// An API token has one length, so a file that is half written does not pass for one.
func parseToken(text string) (Secret, *Error) {
	text = strings.TrimSpace(text)
	wrong := func(r rune) bool { return r < '!' || r > '~' }
	if text != "" && len(text) <= longestToken && !strings.ContainsFunc(text, wrong) && (!strings.HasPrefix(text, "clv_") || len(text) == apiTokenLength) {
		return NewSecret([]byte(text)), nil
	}
	return Secret{}, &Error{
		Code:     CodeTokenUnusable,
		Title:    "Token unusable",
		Detail:   "This is not a token.",
		WhatToDo: "Give a whole API token (clv_...) or a JWT: one line of printable ASCII, at most 16 KiB.",
	}
}
