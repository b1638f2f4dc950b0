// Microsoft's client for Go against the fake of Azure (providers/testkit/azure): every call that the
// adapter makes, and its token. What it is told by the environment: CLAVIGER_TEST_FAKE_AZURE_ADDRESS
// and CLAVIGER_TEST_FAKE_AZURE_CA, as tests/backends/azure/start prints them.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

const directory = "11111111-2222-3333-4444-555555555555"

type fake struct {
	ctx        context.Context
	vault, hsm *azkeys.Client
}

func connect() (*fake, error) {
	address := os.Getenv("CLAVIGER_TEST_FAKE_AZURE_ADDRESS")
	pem, err := os.ReadFile(os.Getenv("CLAVIGER_TEST_FAKE_AZURE_CA"))
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate of an authority")
	}
	transport := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities}}}
	options := policy.ClientOptions{
		Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: address},
		Transport: transport,
		Retry:     policy.RetryOptions{MaxRetries: -1},
	}
	credential, err := azidentity.NewClientSecretCredential(directory, "any", "any", &azidentity.ClientSecretCredentialOptions{
		ClientOptions: options, DisableInstanceDiscovery: true,
	})
	if err != nil {
		return nil, err
	}
	client := func(url string) (*azkeys.Client, error) {
		return azkeys.NewClient(url, credential, &azkeys.ClientOptions{ClientOptions: options, DisableChallengeResourceVerification: true})
	}
	vault, err := client(address)
	if err != nil {
		return nil, err
	}
	hsm, err := client(strings.Replace(address, "127.0.0.1", "localhost", 1))
	return &fake{context.Background(), vault, hsm}, err
}

func name() string {
	return "go-" + strings.ToLower(rand.Text())
}

func ensure(right bool, otherwise string) error {
	if right {
		return nil
	}
	return errors.New(otherwise)
}

// refused holds an error against Azure's code.
func refused(err error, code string) error {
	var told *azcore.ResponseError
	if errors.As(err, &told) && told.ErrorCode == code {
		return nil
	}
	return fmt.Errorf("%s was expected: %v", code, err)
}

func (f *fake) make(client *azkeys.Client, kind azkeys.KeyType, size int32) (azkeys.CreateKeyResponse, error) {
	return client.CreateKey(f.ctx, name(), azkeys.CreateKeyParameters{
		Kty: &kind, KeySize: &size, KeyOps: to.SliceOfPtrs(azkeys.KeyOperationWrapKey, azkeys.KeyOperationUnwrapKey),
		Tags: map[string]*string{"claviger-tenant": to.Ptr("t")},
	}, nil)
}

func (f *fake) roundTrip(client *azkeys.Client, key *azkeys.KeyBundle, algorithm azkeys.EncryptionAlgorithm) error {
	id := *key.Key.KID
	secret := bytes.Repeat([]byte{7}, 32)
	wrapped, err := client.WrapKey(f.ctx, id.Name(), id.Version(), azkeys.KeyOperationParameters{Algorithm: &algorithm, Value: secret}, nil)
	if err != nil {
		return err
	}
	if *wrapped.KID != id {
		return fmt.Errorf("wrapped under %s, not %s", *wrapped.KID, id)
	}
	opened, err := client.UnwrapKey(f.ctx, id.Name(), id.Version(), azkeys.KeyOperationParameters{Algorithm: &algorithm, Value: wrapped.Result}, nil)
	if err != nil {
		return err
	}
	return ensure(bytes.Equal(opened.Result, secret), "another key came back")
}

func rsaWraps(f *fake) error {
	key, err := f.make(f.vault, azkeys.KeyTypeRSA, 3072)
	if err != nil {
		return err
	}
	for _, algorithm := range []azkeys.EncryptionAlgorithm{azkeys.EncryptionAlgorithmRSAOAEP, azkeys.EncryptionAlgorithmRSAOAEP256} {
		if err := f.roundTrip(f.vault, &key.KeyBundle, algorithm); err != nil {
			return err
		}
	}
	return ensure(len(key.Key.N) == 384 && *key.Tags["claviger-tenant"] == "t", "not the key that was asked for")
}

func aesWraps(f *fake) error {
	key, err := f.make(f.hsm, azkeys.KeyTypeOctHSM, 256)
	if err != nil {
		return err
	}
	return f.roundTrip(f.hsm, &key.KeyBundle, azkeys.EncryptionAlgorithmA256KW)
}

func gcmBinds(f *fake) error {
	key, err := f.hsm.CreateKey(f.ctx, name(), azkeys.CreateKeyParameters{
		Kty: to.Ptr(azkeys.KeyTypeOctHSM), KeySize: to.Ptr(int32(256)), KeyOps: to.SliceOfPtrs(azkeys.KeyOperationEncrypt, azkeys.KeyOperationDecrypt),
	}, nil)
	if err != nil {
		return err
	}
	id, algorithm := *key.Key.KID, azkeys.EncryptionAlgorithmA256GCM
	sealed, err := f.hsm.Encrypt(f.ctx, id.Name(), id.Version(), azkeys.KeyOperationParameters{
		Algorithm: &algorithm, Value: []byte("a data key"), AdditionalAuthenticatedData: []byte("context"),
	}, nil)
	if err != nil {
		return err
	}
	open := func(aad string) ([]byte, error) {
		opened, err := f.hsm.Decrypt(f.ctx, id.Name(), id.Version(), azkeys.KeyOperationParameters{
			Algorithm: &algorithm, Value: sealed.Result, IV: sealed.IV, AuthenticationTag: sealed.AuthenticationTag, AdditionalAuthenticatedData: []byte(aad),
		}, nil)
		return opened.Result, err
	}
	if opened, err := open("context"); err != nil || string(opened) != "a data key" {
		return fmt.Errorf("opened %q: %v", opened, err)
	}
	_, err = open("other")
	return refused(err, "BadParameter")
}

func versions(f *fake) error {
	key, err := f.make(f.hsm, azkeys.KeyTypeOctHSM, 256)
	if err != nil {
		return err
	}
	id := *key.Key.KID
	for range 5 {
		if _, err := f.hsm.RotateKey(f.ctx, id.Name(), nil); err != nil {
			return err
		}
	}
	seen := map[azkeys.ID]bool{}
	for pager := f.hsm.NewListKeyPropertiesVersionsPager(id.Name(), nil); pager.More(); {
		page, err := pager.NextPage(f.ctx)
		if err != nil {
			return err
		}
		for _, version := range page.Value {
			seen[*version.KID] = true
		}
	}
	current, err := f.hsm.GetKey(f.ctx, id.Name(), "", nil)
	if err != nil {
		return err
	}
	return ensure(len(seen) == 6 && seen[id] && seen[*current.Key.KID] && *current.Key.KID != id, fmt.Sprint(seen))
}

func disabled(f *fake) error {
	key, err := f.make(f.vault, azkeys.KeyTypeRSA, 2048)
	if err != nil {
		return err
	}
	id := *key.Key.KID
	change := azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(false)}, Tags: map[string]*string{"a": to.Ptr("b")}}
	changed, err := f.vault.UpdateKey(f.ctx, id.Name(), id.Version(), change, nil)
	if err != nil {
		return err
	}
	if *changed.Attributes.Enabled || *changed.Tags["a"] != "b" {
		return errors.New("it was not changed")
	}
	return refused(f.roundTrip(f.vault, &key.KeyBundle, azkeys.EncryptionAlgorithmRSAOAEP256), "Forbidden")
}

func deleted(f *fake) error {
	key, err := f.make(f.vault, azkeys.KeyTypeRSA, 2048)
	if err != nil {
		return err
	}
	id := *key.Key.KID
	if _, err := f.vault.DeleteKey(f.ctx, id.Name(), nil); err != nil {
		return err
	}
	if _, err := f.vault.GetKey(f.ctx, id.Name(), "", nil); refused(err, "KeyNotFound") != nil {
		return refused(err, "KeyNotFound")
	}
	gone, err := f.vault.GetDeletedKey(f.ctx, id.Name(), nil)
	if err != nil {
		return err
	}
	if !gone.ScheduledPurgeDate.After(time.Now()) {
		return errors.New("it is purged at once")
	}
	if _, err := f.vault.RecoverDeletedKey(f.ctx, id.Name(), nil); err != nil {
		return err
	}
	return f.roundTrip(f.vault, &key.KeyBundle, azkeys.EncryptionAlgorithmRSAOAEP256)
}

func main() {
	f, err := connect()
	if err != nil {
		fmt.Println("FAILED connect", err)
		os.Exit(1)
	}
	tests := []struct {
		name string
		run  func(*fake) error
	}{
		{"rsa wraps", rsaWraps}, {"aes wraps", aesWraps}, {"gcm binds", gcmBinds}, {"versions", versions}, {"disabled", disabled}, {"deleted", deleted},
	}
	failed := 0
	for _, test := range tests {
		if err := test.run(f); err != nil {
			failed++
			fmt.Println("FAILED", test.name, err)
		} else {
			fmt.Println("ok", test.name)
		}
	}
	fmt.Printf("%d passed, %d failed\n", len(tests)-failed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
