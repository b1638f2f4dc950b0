package claviger

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestFilesAreEncryptedAndDecrypted(t *testing.T) {
	client, ctx := acme(t), t.Context()
	for _, length := range []int{0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 100_000} {
		file, content := new(bytes.Buffer), new(bytes.Buffer)
		succeeds(t, Encrypt(ctx, client, "orders", file, bytes.NewReader(pattern(length)), EncryptOptions{Context: tableOrders}))
		equal(t, bytes.Contains(file.Bytes(), pattern(32)), false)
		succeeds(t, Decrypt(ctx, client, content, bytes.NewReader(file.Bytes()), DecryptOptions{Context: tableOrders}))
		equal(t, bytes.Equal(content.Bytes(), pattern(length)), true)
	}
	// Each file has its own data key, and its own salt.
	first, second := new(bytes.Buffer), new(bytes.Buffer)
	succeeds(t, Encrypt(ctx, client, "orders", first, strings.NewReader(content), EncryptOptions{}))
	succeeds(t, Encrypt(ctx, client, "orders", second, strings.NewReader(content), EncryptOptions{}))
	equal(t, bytes.Equal(first.Bytes()[first.Len()-30:], second.Bytes()[second.Len()-30:]), false)
	// The errors of the gateway come through.
	err := Decrypt(ctx, client, io.Discard, bytes.NewReader(first.Bytes()), DecryptOptions{Context: tableOrders})
	failed(t, err, ErrCiphertextRejected)
	failed(t, Encrypt(ctx, client, "no-such-key", io.Discard, strings.NewReader(""), EncryptOptions{}), ErrNotFound)
	other := unique(t)
	must(client.CreateKey(ctx, other, "embedded", CreateKeyOptions{}))(t)
	err = Decrypt(ctx, client, io.Discard, bytes.NewReader(first.Bytes()), DecryptOptions{Key: other})
	failed(t, err, ErrCiphertextRejected)
	succeeds(t, Decrypt(ctx, client, io.Discard, bytes.NewReader(first.Bytes()), DecryptOptions{Key: "orders"}))
	// What is no file of Claviger, or not all of one, is nothing to ask the gateway.
	s := newStub(t, problem("not_found", 404, nil))
	nowhere := connect(t, s.address, WithToken(someToken))
	for cut, class := range map[int]error{0: ErrFileUnrecognized, 3: ErrFileTruncated, 100: ErrFileTruncated} {
		failed(t, Decrypt(ctx, nowhere, io.Discard, bytes.NewReader(first.Bytes()[:cut]), DecryptOptions{}), class)
	}
	equal(t, s.count(), 0)
}

// Every client has this test, so that each of them opens the files of the others.
func TestCommandLineOpensItAndTheOtherWayRound(t *testing.T) {
	client, folder := acme(t), t.TempDir()
	plain, encrypted, again := filepath.Join(folder, "plain"), filepath.Join(folder, "encrypted"), filepath.Join(folder, "again")
	run := func(words ...string) {
		t.Helper()
		// The environment leads to the gateway that all tests share.
		command := exec.Command(shared.binary, append(words, "--context", "table=orders")...)
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
	}
	text, content := string(pattern(50_000)), new(bytes.Buffer)
	write(t, plain, text)
	succeeds(t, EncryptFile(t.Context(), client, "orders", plain, encrypted, EncryptOptions{Context: tableOrders}))
	succeeds(t, os.Remove(plain))
	run("decrypt", "--in", encrypted, "--out", plain)
	equal(t, read(t, plain) == text, true)
	run("encrypt", "orders", "--in", plain, "--out", again)
	succeeds(t, Decrypt(t.Context(), client, content, strings.NewReader(read(t, again)), DecryptOptions{Context: tableOrders}))
	equal(t, content.String() == text, true)
}

// names are those of the files in a folder.
func names(t testing.TB, folder string) []string {
	t.Helper()
	var found []string
	for _, one := range must(os.ReadDir(folder))(t) {
		found = append(found, one.Name())
	}
	return found
}

func modeOf(t testing.TB, path string) fs.FileMode {
	t.Helper()
	return must(os.Stat(path))(t).Mode().Perm()
}

func TestTargetIsReplacedOnlyByTheWhole(t *testing.T) {
	client, ctx, folder := acme(t), t.Context(), t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	plain := string(pattern(50_000))
	write(t, in("plain"), plain)
	succeeds(t, EncryptFile(ctx, client, "orders", in("plain"), in("file.clv"), EncryptOptions{Context: tableOrders}))
	equal(t, modeOf(t, in("file.clv")), fs.FileMode(0o600))
	succeeds(t, DecryptFile(ctx, client, in("file.clv"), in("again"), DecryptOptions{Context: tableOrders}))
	equal(t, read(t, in("again")) == plain, true)

	// A target that exists keeps its mode, and a symbolic link stays one.
	write(t, in("existing"), "old")
	succeeds(t, os.Chmod(in("existing"), 0o644))
	succeeds(t, os.Symlink("existing", in("link")))
	succeeds(t, DecryptFile(ctx, client, in("file.clv"), in("link"), DecryptOptions{Context: tableOrders}))
	equal(t, read(t, in("existing")) == plain, true)
	equal(t, modeOf(t, in("existing")), fs.FileMode(0o644))
	equal(t, must(os.Readlink(in("link")))(t), "existing")

	// Damage behind the first chunk leaves nothing.
	damage := []byte(read(t, in("file.clv")))
	damage[len(damage)-1]++
	write(t, in("damaged.clv"), string(damage))
	before := names(t, folder)
	for _, target := range []string{"existing", "new"} {
		err := DecryptFile(ctx, client, in("damaged.clv"), in(target), DecryptOptions{Context: tableOrders})
		failed(t, err, ErrFileDamaged)
	}
	equal(t, read(t, in("existing")) == plain, true)
	failed(t, DecryptFile(ctx, client, in("file.clv"), in("new"), DecryptOptions{}), ErrCiphertextRejected)
	for _, wrong := range [][2]string{{"new", "no-such-source"}, {"no-such-folder/new", "file.clv"}, {".", "file.clv"}, {"no-link", "file.clv"}} {
		succeeds(t, os.Symlink("nowhere", in("no-link")))
		if err := DecryptFile(ctx, client, in(wrong[1]), in(wrong[0]), DecryptOptions{Context: tableOrders}); err == nil {
			t.Fatal(wrong)
		}
		succeeds(t, os.Remove(in("no-link")))
	}
	equal(t, names(t, folder), before)

	// Both may be the same.
	succeeds(t, EncryptFile(ctx, client, "orders", in("plain"), in("plain"), EncryptOptions{}))
	equal(t, strings.HasPrefix(read(t, in("plain")), fileMagic), true)
	succeeds(t, DecryptFile(ctx, client, in("plain"), in("plain"), DecryptOptions{}))
	equal(t, read(t, in("plain")) == plain, true)
	equal(t, names(t, folder), before)
}
