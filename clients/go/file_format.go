package claviger

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Encrypted files, as docs/file-format.md describes them: magic, version, the length of the envelope, and the envelope,
// which is the wrapped key in its binary form; then a ciphertext of C2SP chunked encryption in its instantiation
// Cobblestone-256: a salt, a commitment, and chunks.
const (
	fileMagic    = "CLF"
	fileVersion  = 1
	mostEnvelope = 16_384

	saltBytes       = 24
	commitmentBytes = 32
	dataKeyBytes    = 32
	chunkBytes      = 16_384
	tagBytes        = 16
	nonceBytes      = 12
	mostChunks      = 1 << 38

	fileInfo = "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"

	wrappedPrefix  = "clv1."
	envelopePrefix = "CLV\x01"
)

// chunkCipher encrypts or decrypts the chunks of one file in their order.
type chunkCipher struct {
	gcm        cipher.AEAD
	base       [nonceBytes]byte
	commitment [commitmentBytes]byte
	number     uint64
}

// newChunkCipher derives the keys of one file from its data key, its header and its salt.
func newChunkCipher(dataKey Secret, header, salt []byte) (*chunkCipher, error) {
	context := sha256.Sum256(header)
	info := fileInfo + string(salt) + string(context[:])
	derived, err := hkdf.Expand(sha512.New, dataKey.Expose(), info, dataKeyBytes+nonceBytes+commitmentBytes)
	if err != nil {
		return nil, err
	}
	defer clear(derived)
	block, err := aes.NewCipher(derived[:dataKeyBytes])
	if err != nil {
		return nil, err
	}
	made := new(chunkCipher)
	copy(made.base[:], derived[dataKeyBytes:])
	copy(made.commitment[:], derived[dataKeyBytes+nonceBytes:])
	made.gcm, err = cipher.NewGCM(block)
	return made, err
}

var errTooManyChunks = errors.New("claviger: an encrypted file has at most 4 PiB")

// nonce returns the nonce of the next chunk.
func (c *chunkCipher) nonce() ([nonceBytes]byte, error) {
	nonce := c.base
	if c.number == mostChunks {
		return nonce, errTooManyChunks
	}
	last := nonce[nonceBytes-8:]
	binary.BigEndian.PutUint64(last, binary.BigEndian.Uint64(last)^c.number)
	c.number++
	return nonce, nil
}

// seal encrypts the next chunk in its own memory, which has room for the tag.
func (c *chunkCipher) seal(plaintext []byte) ([]byte, error) {
	nonce, err := c.nonce()
	if err != nil {
		return nil, err
	}
	return c.gcm.Seal(plaintext[:0], nonce[:], plaintext, nil), nil
}

// open decrypts the next chunk in its own memory.
func (c *chunkCipher) open(sealed []byte) ([]byte, error) {
	nonce, err := c.nonce()
	if err != nil {
		return nil, err
	}
	return c.gcm.Open(sealed[:0], nonce[:], sealed, nil)
}

func newSalt() []byte {
	salt := make([]byte, saltBytes)
	// It never fails.
	_, _ = rand.Read(salt)
	return salt
}

// newHeader makes the header of a file with this data key.
func newHeader(dataKey *DataKey) ([]byte, error) {
	envelope, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimPrefix(dataKey.Wrapped, wrappedPrefix))
	if err != nil || wrappedText(envelope) != dataKey.Wrapped || !bytes.HasPrefix(envelope, []byte(envelopePrefix)) || len(envelope) > mostEnvelope {
		return nil, unfit(dataKey.Meta, "The wrapped key in the response has another version of its format.")
	}
	if dataKey.Plaintext.Len() != dataKeyBytes {
		return nil, unfit(dataKey.Meta, fmt.Sprintf("The data key in the response has not %d bytes.", dataKeyBytes))
	}
	header := append([]byte(fileMagic), fileVersion)
	header = binary.BigEndian.AppendUint32(header, uint32(len(envelope)))
	return append(header, envelope...), nil
}

func wrappedText(envelope []byte) string {
	return wrappedPrefix + base64.RawURLEncoding.EncodeToString(envelope)
}

// encryptContent writes a file with this header.
func encryptContent(ctx context.Context, header, salt []byte, dataKey Secret, target io.Writer, source io.Reader) error {
	made, err := newChunkCipher(dataKey, header, salt)
	if err != nil {
		return err
	}
	for _, part := range [][]byte{header, salt, made.commitment[:]} {
		if _, err := target.Write(part); err != nil {
			return err
		}
	}
	buffer := make([]byte, chunkBytes+tagBytes)
	defer clear(buffer)
	for last := false; !last; {
		count, err := readUpTo(ctx, source, buffer[:chunkBytes])
		if err != nil {
			return err
		}
		// The last chunk is always shorter, and may be empty.
		last = count < chunkBytes
		sealed, err := made.seal(buffer[:count])
		if err != nil {
			return err
		}
		if _, err := target.Write(sealed); err != nil {
			return err
		}
	}
	return nil
}

// decrypt reads a file, whose wrapped key `unwrap` opens, and writes each chunk once it is authenticated.
func decrypt(ctx context.Context, target io.Writer, source io.Reader, unwrap func(wrapped string) (*UnwrapResult, error)) error {
	header, err := readHeader(ctx, source)
	if err != nil {
		return err
	}
	salt, commitment := make([]byte, saltBytes), make([]byte, commitmentBytes)
	for _, part := range [][]byte{salt, commitment} {
		if err := readAll(ctx, source, part); err != nil {
			return err
		}
	}
	unwrapped, err := unwrap(wrappedText(header[headBytes:]))
	if err != nil {
		return err
	}
	defer unwrapped.Plaintext.Destroy()
	if unwrapped.Plaintext.Len() != dataKeyBytes {
		return headerMismatch()
	}
	made, err := newChunkCipher(unwrapped.Plaintext, header, salt)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(made.commitment[:], commitment) != 1 {
		return headerMismatch()
	}
	buffer := make([]byte, chunkBytes+tagBytes)
	defer clear(buffer)
	for last := false; !last; {
		count, err := readUpTo(ctx, source, buffer)
		if err != nil {
			return err
		}
		if count < tagBytes {
			return truncated()
		}
		last = count < len(buffer)
		plaintext, err := made.open(buffer[:count])
		if err != nil {
			return damaged("A part of the file's content was changed, moved, taken away or added.")
		}
		if _, err := target.Write(plaintext); err != nil {
			return err
		}
	}
	return nil
}

// headBytes are those before the envelope: magic, version and length.
const headBytes = len(fileMagic) + 1 + 4

// readHeader reads everything up to the end of the envelope.
func readHeader(ctx context.Context, source io.Reader) ([]byte, error) {
	head := make([]byte, headBytes)
	count, err := readUpTo(ctx, source, head)
	switch {
	case err != nil:
		return nil, err
	case count < len(fileMagic) || string(head[:len(fileMagic)]) != fileMagic:
		return nil, fileError(CodeFileUnrecognized, "This is not an encrypted file of Claviger.",
			"Check that this is the file that was encrypted, from its first byte on.")
	case count == len(fileMagic):
		return nil, truncated()
	case head[len(fileMagic)] != fileVersion:
		return nil, fileError(CodeFileVersion,
			fmt.Sprintf("The file has version %d of the format, and this release of the client reads version %d.", head[len(fileMagic)], fileVersion),
			"Use a later release of the client.")
	case count < headBytes:
		return nil, truncated()
	}
	length := binary.BigEndian.Uint32(head[len(fileMagic)+1:])
	if length > mostEnvelope {
		return nil, damaged(fmt.Sprintf("The wrapped key in the file has %d bytes, and %d is the most.", length, mostEnvelope))
	}
	header := append(head, make([]byte, length)...)
	return header, readAll(ctx, source, header[headBytes:])
}

// readAll fills the memory with a part of the file that must be whole.
func readAll(ctx context.Context, source io.Reader, into []byte) error {
	count, err := readUpTo(ctx, source, into)
	if err == nil && count < len(into) {
		return truncated()
	}
	return err
}

// readUpTo fills the memory. It reads less at the end of the source only.
//
// io.ReadFull would not tell that end from a source that reports io.ErrUnexpectedEOF, such as the body of a response that
// was cut: a part would be encrypted as if it were the whole.
func readUpTo(ctx context.Context, source io.Reader, into []byte) (int, error) {
	count := 0
	for empty := 0; count < len(into); {
		if err := ctx.Err(); err != nil {
			return count, err
		}
		more, err := source.Read(into[count:])
		count += more
		if err == io.EOF {
			return count, nil
		}
		if err != nil {
			return count, err
		}
		if empty++; more > 0 {
			empty = 0
		} else if empty == 100 {
			return count, io.ErrNoProgress
		}
	}
	return count, nil
}

func truncated() *Error {
	return fileError(CodeFileTruncated, "The end of the file is missing.", "Take another copy of the file.")
}

func damaged(detail string) *Error {
	return fileError(CodeFileDamaged, detail, "Take another copy of the file. This one may have been cut short, too.")
}

func headerMismatch() *Error {
	return fileError(CodeFileHeaderMismatch, "The file's header does not belong to its content.",
		"Take another copy of the file. If its wrapped key was replaced by a rewrapped one, put the old one back.")
}

func fileError(code ErrorCode, detail, advice string) *Error {
	return &Error{Code: code, Title: "File not opened", Detail: detail, WhatToDo: advice}
}

// unfit is the error for a data key that no file can have.
func unfit(meta Meta, detail string) *Error {
	return &Error{
		Code:          CodeUnexpectedResponse,
		Title:         "Unexpected response",
		Detail:        detail,
		WhatToDo:      "Check that this release of the client goes with the gateway.",
		RequestID:     meta.RequestID,
		AuditIndex:    meta.AuditIndex,
		MaybeExecuted: true,
	}
}
