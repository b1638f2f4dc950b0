package claviger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// EncryptOptions is what may be left out of [Encrypt] and [EncryptFile].
type EncryptOptions struct {
	// Binds the file to pairs of text, which decryption must repeat exactly. It is not secret.
	Context map[string]string
}

// DecryptOptions is what may be left out of [Decrypt] and [DecryptFile].
type DecryptOptions struct {
	// The context that the file was encrypted with.
	Context map[string]string

	// The name of the key, if no other one may open the file.
	Key string
}

// Encrypt encrypts what it reads to its end, under a data key of its own that the key wraps. It makes one call to the
// gateway, and needs constant memory. The format is that of all clients: docs/file-format.md.
//
// If it fails, `target` has a part that does not open. Errors of the source and of the target are returned as they are.
func Encrypt(ctx context.Context, client *Client, key string, target io.Writer, source io.Reader, options EncryptOptions) error {
	dataKey, err := client.GenerateDataKey(ctx, key, DataKeyOptions{Bytes: dataKeyBytes, Context: options.Context})
	if err != nil {
		return err
	}
	// The cipher is made of it, and stays as long as this call.
	defer dataKey.Plaintext.Destroy()
	header, err := newHeader(dataKey)
	if err != nil {
		return err
	}
	return encryptContent(ctx, header, newSalt(), dataKey.Plaintext, target, source)
}

// Decrypt decrypts a file that a client of Claviger encrypted. It makes one call to the gateway, and needs constant
// memory.
//
// What it writes is authenticated, but it is the whole content only if there is no error: a file that was cut or changed
// further on is an [ErrFile] after what comes before that. Discard what was written then, as [DecryptFile] does. Errors
// of the source and of the target are returned as they are.
func Decrypt(ctx context.Context, client *Client, target io.Writer, source io.Reader, options DecryptOptions) error {
	return decrypt(ctx, target, source, func(wrapped string) (*UnwrapResult, error) {
		if options.Key != "" {
			return client.UnwrapWithKey(ctx, options.Key, wrapped, UnwrapOptions{Context: options.Context})
		}
		return client.Unwrap(ctx, wrapped, UnwrapOptions{Context: options.Context})
	})
}

// EncryptFile encrypts the file at one path into a file at another. Both may be the same. The order of the paths is that
// of os.Rename.
//
// Until all of it is written and synced, the result is in a temporary file in the target's folder. Then it takes the
// target's place. If anything fails, the target is as before. A new target can be read and written by its owner only
// (mode 0600). An existing one keeps its mode, and must be a regular file.
func EncryptFile(ctx context.Context, client *Client, key, source, target string, options EncryptOptions) error {
	return replaceFile(source, target, func(out io.Writer, in io.Reader) error {
		return Encrypt(ctx, client, key, out, in, options)
	})
}

// DecryptFile decrypts the file at one path into a file at another, which is replaced only when all of it is
// authenticated. See [EncryptFile] for the target.
func DecryptFile(ctx context.Context, client *Client, source, target string, options DecryptOptions) error {
	return replaceFile(source, target, func(out io.Writer, in io.Reader) error {
		return Decrypt(ctx, client, out, in, options)
	})
}

// replaceFile puts what `fill` makes of the source in the place of the target when it is complete.
func replaceFile(source, target string, fill func(io.Writer, io.Reader) error) error {
	target, mode, err := replaceable(target)
	if err != nil {
		return err
	}
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(target), ".claviger-*.part")
	if err != nil {
		return errors.Join(err, in.Close())
	}
	err = fill(out, in)
	// Closed before the target is replaced, which may be the same file.
	for _, finish := range []func() error{out.Sync, out.Close, in.Close} {
		if failure := finish(); err == nil {
			err = failure
		}
	}
	if err == nil && mode != nil {
		err = os.Chmod(out.Name(), mode.Perm())
	}
	if err == nil {
		err = os.Rename(out.Name(), target)
	}
	if err != nil {
		if left := os.Remove(out.Name()); left != nil {
			err = errors.Join(err, left)
		}
		return err
	}
	if folder, err := os.Open(filepath.Dir(target)); err == nil {
		// The target is replaced already. Some file systems sync no folders.
		_ = folder.Sync()
		_ = folder.Close()
	}
	return nil
}

// replaceable returns where a target is, and its mode if it exists. A symbolic link stays one: what it leads to is
// replaced.
func replaceable(target string) (string, *fs.FileMode, error) {
	found, err := os.Lstat(target)
	if errors.Is(err, fs.ErrNotExist) {
		return target, nil, nil
	}
	if err == nil && found.Mode()&fs.ModeSymlink != 0 {
		if target, err = filepath.EvalSymlinks(target); err == nil {
			found, err = os.Lstat(target)
		}
	}
	if err != nil {
		return "", nil, err
	}
	mode := found.Mode()
	if !mode.IsRegular() {
		return "", nil, fmt.Errorf("claviger: %s is not a regular file, so it cannot be replaced", target)
	}
	return target, &mode, nil
}
