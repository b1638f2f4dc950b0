package claviger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

const vectors = "../../tests/vectors/files"

// vector is a file of tests/vectors/files.
type vector struct {
	Name            string `json:"-"`
	K               string
	File            []byte
	PlaintextLength int    `json:"plaintext_length"`
	PlaintextSHA256 string `json:"plaintext_sha256"`
	Pieces          []struct {
		Hex, Of  string
		From, To int
	}
	Error         ErrorCode
	Authenticated int `json:"authenticated_length"`
}

func readVectors(t testing.TB, folder string) []*vector {
	t.Helper()
	files := must(filepath.Glob(filepath.Join(vectors, folder, "*.json")))(t)
	equal(t, len(files) > 5, true)
	var found []*vector
	for _, file := range files {
		made := &vector{Name: strings.TrimSuffix(filepath.Base(file), ".json")}
		succeeds(t, json.Unmarshal([]byte(read(t, file)), made))
		found = append(found, made)
	}
	return found
}

// key is the file's data key, as if the envelope had been unwrapped.
func (v *vector) key(t testing.TB) Secret {
	t.Helper()
	return NewSecret(must(hex.DecodeString(v.K))(t))
}

func (v *vector) open(t testing.TB, target io.Writer, source io.Reader) error {
	t.Helper()
	return decrypt(t.Context(), target, source, func(string) (*UnwrapResult, error) { return &UnwrapResult{Plaintext: v.key(t)}, nil })
}

// pattern is the content of all vectors, cut to a length.
func pattern(length int) []byte {
	var made []byte
	for i := uint32(0); len(made) < length; i++ {
		block := sha256.Sum256(binary.BigEndian.AppendUint32(nil, i))
		made = append(made, block[:]...)
	}
	return made[:length]
}

func TestGoodVectorsOpen(t *testing.T) {
	for _, v := range readVectors(t, "good") {
		t.Run(v.Name, func(t *testing.T) {
			for _, source := range []io.Reader{bytes.NewReader(v.File), iotest.OneByteReader(bytes.NewReader(v.File)), iotest.DataErrReader(bytes.NewReader(v.File))} {
				content := new(bytes.Buffer)
				succeeds(t, v.open(t, content, source))
				sum := sha256.Sum256(content.Bytes())
				equal(t, hex.EncodeToString(sum[:]), v.PlaintextSHA256)
				equal(t, bytes.Equal(content.Bytes(), pattern(v.PlaintextLength)), true)
			}
			// With the same header and salt, the same bytes are written.
			length := int(binary.BigEndian.Uint32(v.File[4:]))
			header, salt := v.File[:headBytes+length], v.File[headBytes+length:][:saltBytes]
			for _, source := range []io.Reader{bytes.NewReader(pattern(v.PlaintextLength)), iotest.HalfReader(bytes.NewReader(pattern(v.PlaintextLength)))} {
				made := new(bytes.Buffer)
				succeeds(t, encryptContent(t.Context(), header, salt, v.key(t), made, source))
				equal(t, bytes.Equal(made.Bytes(), v.File), true)
			}
			made := must(newHeader(&DataKey{Plaintext: v.key(t), Wrapped: wrappedText(header[headBytes:])}))(t)
			equal(t, made, header)
		})
	}
}

func TestBadVectorsAreRefused(t *testing.T) {
	good, codes := map[string]*vector{}, map[ErrorCode]bool{}
	for _, v := range readVectors(t, "good") {
		good[v.Name] = v
	}
	for _, v := range readVectors(t, "bad") {
		t.Run(v.Name, func(t *testing.T) {
			var file []byte
			for _, piece := range v.Pieces {
				if piece.Of != "" {
					file = append(file, good[piece.Of].File[piece.From:piece.To]...)
				} else {
					file = append(file, must(hex.DecodeString(piece.Hex))(t)...)
				}
			}
			content := new(bytes.Buffer)
			err := failed(t, v.open(t, content, bytes.NewReader(file)), ErrFile)
			equal(t, []any{err.Code, err.Retryable, err.WhatToDo != ""}, []any{v.Error, false, true})
			equal(t, content.Len() <= v.Authenticated && bytes.Equal(content.Bytes(), pattern(content.Len())), true)
			codes[err.Code] = true
		})
	}
	for _, code := range []ErrorCode{CodeFileUnrecognized, CodeFileVersion, CodeFileTruncated, CodeFileHeaderMismatch, CodeFileDamaged} {
		equal(t, codes[code], true)
	}
}

// A part must not be encrypted as if it were the whole, nor may a failure be taken for damage.
func TestFailuresOfSourcesAndTargetsAreReturned(t *testing.T) {
	v := readVectors(t, "good")[0]
	broken := errors.New("broken")
	for _, failure := range []error{broken, io.ErrUnexpectedEOF} {
		for _, length := range []int{0, 100, chunkBytes, 2*chunkBytes + 7} {
			source := io.MultiReader(bytes.NewReader(pattern(length)), iotest.ErrReader(failure))
			target := new(bytes.Buffer)
			if err := encryptContent(t.Context(), nil, make([]byte, saltBytes), v.key(t), target, source); err != failure {
				t.Fatal(err)
			}
		}
		for _, length := range []int{0, 2, 5, 100, len(v.File) - 20, len(v.File)} {
			source := io.MultiReader(bytes.NewReader(v.File[:length]), iotest.ErrReader(failure))
			if err := v.open(t, io.Discard, source); err != failure {
				t.Fatal(length, err)
			}
		}
	}
	for writes := range 4 {
		if err := encryptContent(t.Context(), nil, make([]byte, saltBytes), v.key(t), &failing{writes, broken}, bytes.NewReader(nil)); err != broken {
			t.Fatal(err)
		}
	}
	if err := v.open(t, &failing{0, broken}, bytes.NewReader(v.File)); err != broken {
		t.Fatal(err)
	}
	if err := v.open(t, io.Discard, silent{}); err != io.ErrNoProgress {
		t.Fatal(err)
	}
	if err := decrypt(t.Context(), io.Discard, bytes.NewReader(v.File), func(string) (*UnwrapResult, error) { return nil, broken }); err != broken {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := encryptContent(ended, nil, nil, v.key(t), io.Discard, bytes.NewReader(nil)); err != context.Canceled {
		t.Fatal(err)
	}
}

// failing is a target that fails after some writes.
type failing struct {
	writes int
	err    error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.writes == 0 {
		return 0, f.err
	}
	f.writes--
	return len(p), nil
}

// silent is a source that never has anything.
type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

func TestThereAreOnlySoManyChunks(t *testing.T) {
	v := readVectors(t, "good")[0]
	made := must(newChunkCipher(v.key(t), nil, nil))(t)
	made.number = mostChunks - 1
	sealed := must(made.seal([]byte("last")))(t)
	if _, err := made.seal([]byte("one more")); err != errTooManyChunks {
		t.Fatal(err)
	}
	other := must(newChunkCipher(v.key(t), nil, nil))(t)
	other.number = mostChunks - 1
	equal(t, string(must(other.open(sealed))(t)), "last")
	if _, err := other.open(sealed); err == nil {
		t.Fatal("opened")
	}
}

// zeros is a source without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestStreamsNeedConstantMemory(t *testing.T) {
	const length = 256 << 20
	key, header := readVectors(t, "good")[0].key(t), must(newHeader(&DataKey{
		Plaintext: NewSecret(make([]byte, dataKeyBytes)), Wrapped: wrappedText([]byte(envelopePrefix)),
	}))(t)
	before := new(runtime.MemStats)
	runtime.ReadMemStats(before)
	reader, writer := io.Pipe()
	go func() {
		writer.CloseWithError(encryptContent(t.Context(), header, newSalt(), key, writer, io.LimitReader(zeros{}, length)))
	}()
	count := new(counter)
	succeeds(t, decrypt(t.Context(), count, reader, func(string) (*UnwrapResult, error) { return &UnwrapResult{Plaintext: NewSecret(key.Expose())}, nil }))
	equal(t, int64(*count), int64(length))
	after := new(runtime.MemStats)
	runtime.ReadMemStats(after)
	// All that was allocated meanwhile, not only what was left at once.
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 1<<20 {
		t.Fatalf("%d bytes for a file of %d", allocated, length)
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func TestResponsesThatNoFileCanHave(t *testing.T) {
	encoded := func(text string) string { return wrappedPrefix + base64.RawURLEncoding.EncodeToString([]byte(text)) }
	for wrapped, length := range map[string]int{
		encoded(envelopePrefix): 31,
		encoded("CLV\x02"):      32,
		strings.TrimPrefix(encoded(envelopePrefix), wrappedPrefix):  32,
		encoded(envelopePrefix) + "\n":                              32,
		encoded(envelopePrefix) + "=":                               32,
		"clv2." + encoded(envelopePrefix)[5:]:                       32,
		encoded(envelopePrefix + strings.Repeat("x", mostEnvelope)): 32,
	} {
		plaintext := base64.StdEncoding.EncodeToString(make([]byte, length))
		s := newStub(t, object(200, map[string]any{"key": "orders", "version": 1, "wrapped": wrapped, "plaintext": plaintext}))
		target := new(bytes.Buffer)
		err := Encrypt(t.Context(), connect(t, s.address, WithToken(someToken)), "orders", target, strings.NewReader(""), EncryptOptions{})
		failed(t, err, ErrUnexpectedResponse)
		equal(t, target.Len(), 0)
	}
}

func FuzzDecrypt(f *testing.F) {
	for _, v := range readVectors(f, "good") {
		if len(v.File) < 1<<10 {
			f.Add(v.File)
		}
	}
	key := readVectors(f, "good")[0].key(f)
	f.Fuzz(func(t *testing.T, file []byte) {
		err := decrypt(t.Context(), io.Discard, bytes.NewReader(file), func(wrapped string) (*UnwrapResult, error) {
			return &UnwrapResult{Plaintext: NewSecret(key.Expose())}, nil
		})
		if err != nil {
			failed(t, err, ErrFile)
		}
	})
}

func TestVectorsAreAllRead(t *testing.T) {
	equal(t, len(must(os.ReadDir(filepath.Join(vectors, "bad")))(t)) == len(readVectors(t, "bad")), true)
}
