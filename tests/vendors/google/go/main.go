// Holds the fake of Google Cloud KMS against Google's own client for Go, over REST. Each call
// that providers/gcp makes is made here.
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strings"

	"cloud.google.com/go/iam/apiv1/iampb"
	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/googleapis/gax-go/v2/apierror"
	"golang.org/x/oauth2"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const location = "projects/acme-1/locations/europe-west3"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type world struct {
	ctx    context.Context
	client *kms.KeyManagementClient
	ring   string
}

func unique(prefix string) string {
	bytes := make([]byte, 16)
	rand.Read(bytes)
	return prefix + "-" + hex.EncodeToString(bytes)
}

func newWorld(ctx context.Context) (*world, error) {
	token := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "ya29.any"})
	endpoint := option.WithEndpoint(os.Getenv("CLAVIGER_TEST_FAKE_GOOGLE_ADDRESS"))
	client, err := kms.NewKeyManagementRESTClient(ctx, endpoint, option.WithTokenSource(token))
	if err != nil {
		return nil, err
	}
	ring, err := client.CreateKeyRing(ctx, &kmspb.CreateKeyRingRequest{Parent: location, KeyRingId: unique("r"), KeyRing: &kmspb.KeyRing{}})
	if err != nil {
		return nil, err
	}
	return &world{ctx, client, ring.Name}, nil
}

func (w *world) key(purpose kmspb.CryptoKey_CryptoKeyPurpose, algorithm kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm) (*kmspb.CryptoKey, error) {
	template := &kmspb.CryptoKeyVersionTemplate{Algorithm: algorithm, ProtectionLevel: kmspb.ProtectionLevel_SOFTWARE}
	key := &kmspb.CryptoKey{Purpose: purpose, VersionTemplate: template, Labels: map[string]string{"claviger-tenant": "00"}}
	return w.client.CreateCryptoKey(w.ctx, &kmspb.CreateCryptoKeyRequest{Parent: w.ring, CryptoKeyId: unique("k"), CryptoKey: key})
}

func (w *world) symmetric() (*kmspb.CryptoKey, error) {
	return w.key(kmspb.CryptoKey_ENCRYPT_DECRYPT, kmspb.CryptoKeyVersion_GOOGLE_SYMMETRIC_ENCRYPTION)
}

func crc(bytes []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(bytes, castagnoli)))
}

func same(bytes []byte, told *wrapperspb.Int64Value) bool {
	return told.GetValue() == int64(crc32.Checksum(bytes, castagnoli))
}

// refused demands a refusal of this HTTP status with these words in it.
func refused(err error, status int, words string) error {
	var told *apierror.APIError
	if !errors.As(err, &told) || told.HTTPCode() != status {
		return fmt.Errorf("not %d: %v", status, err)
	}
	if said := fmt.Sprintf("%v %v", told, told.Details()); !strings.Contains(said, words) {
		return fmt.Errorf("no %q in %s", words, said)
	}
	return nil
}

func demand(right bool, otherwise string, values ...any) error {
	if right {
		return nil
	}
	return fmt.Errorf(otherwise, values...)
}

func symmetricKeys(w *world) error {
	key, err := w.symmetric()
	if err != nil {
		return err
	}
	plaintext, aad := []byte("a data key of thirty-two bytes!!"), []byte("context")
	made, err := w.client.Encrypt(w.ctx, &kmspb.EncryptRequest{
		Name: key.Name, Plaintext: plaintext, PlaintextCrc32C: crc(plaintext), AdditionalAuthenticatedData: aad, AdditionalAuthenticatedDataCrc32C: crc(aad),
	})
	if err != nil {
		return err
	}
	right := made.Name == key.Primary.Name && made.VerifiedPlaintextCrc32C && made.VerifiedAdditionalAuthenticatedDataCrc32C
	if err := demand(right && same(made.Ciphertext, made.CiphertextCrc32C), "encrypted: %v", made.Name); err != nil {
		return err
	}
	request := &kmspb.DecryptRequest{
		Name: key.Name, Ciphertext: made.Ciphertext, CiphertextCrc32C: crc(made.Ciphertext), AdditionalAuthenticatedData: aad, AdditionalAuthenticatedDataCrc32C: crc(aad),
	}
	opened, err := w.client.Decrypt(w.ctx, request)
	if err != nil {
		return err
	}
	if err := demand(string(opened.Plaintext) == string(plaintext) && same(opened.Plaintext, opened.PlaintextCrc32C) && opened.UsedPrimary, "decrypted"); err != nil {
		return err
	}
	request.AdditionalAuthenticatedData, request.AdditionalAuthenticatedDataCrc32C = nil, nil
	_, err = w.client.Decrypt(w.ctx, request)
	return refused(err, 400, "ciphertext is invalid")
}

func rotation(w *world) error {
	key, err := w.symmetric()
	if err != nil {
		return err
	}
	version, err := w.client.CreateCryptoKeyVersion(w.ctx, &kmspb.CreateCryptoKeyVersionRequest{Parent: key.Name, CryptoKeyVersion: &kmspb.CryptoKeyVersion{}})
	if err != nil {
		return err
	}
	rotated, err := w.client.UpdateCryptoKeyPrimaryVersion(w.ctx, &kmspb.UpdateCryptoKeyPrimaryVersionRequest{Name: key.Name, CryptoKeyVersionId: "2"})
	if err != nil {
		return err
	}
	shown, err := w.client.GetCryptoKey(w.ctx, &kmspb.GetCryptoKeyRequest{Name: key.Name})
	if err != nil {
		return err
	}
	if err := demand(rotated.Primary.Name == version.Name && shown.Primary.Name == version.Name, "primary %v", rotated.Primary); err != nil {
		return err
	}
	versions := w.client.ListCryptoKeyVersions(w.ctx, &kmspb.ListCryptoKeyVersionsRequest{Parent: key.Name, PageSize: 1})
	count := 0
	for {
		if _, err := versions.Next(); errors.Is(err, iterator.Done) {
			break
		} else if err != nil {
			return err
		}
		count++
	}
	return demand(count == 2, "%d versions", count)
}

func states(w *world) error {
	key, err := w.symmetric()
	if err != nil {
		return err
	}
	mask := &fieldmaskpb.FieldMask{Paths: []string{"state"}}
	for _, state := range []kmspb.CryptoKeyVersion_CryptoKeyVersionState{kmspb.CryptoKeyVersion_DISABLED, kmspb.CryptoKeyVersion_ENABLED} {
		version := &kmspb.CryptoKeyVersion{Name: key.Primary.Name, State: state}
		changed, err := w.client.UpdateCryptoKeyVersion(w.ctx, &kmspb.UpdateCryptoKeyVersionRequest{CryptoKeyVersion: version, UpdateMask: mask})
		if err != nil {
			return err
		}
		_, err = w.client.Encrypt(w.ctx, &kmspb.EncryptRequest{Name: key.Name, Plaintext: []byte("key")})
		if state == kmspb.CryptoKeyVersion_DISABLED {
			err = refused(err, 400, "KEY_DISABLED")
		}
		if err != nil {
			return err
		}
		if err := demand(changed.State == state, "state %v", changed.State); err != nil {
			return err
		}
	}
	return nil
}

func rsaKeys(w *world) error {
	key, err := w.key(kmspb.CryptoKey_ASYMMETRIC_DECRYPT, kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_3072_SHA256)
	if err != nil {
		return err
	}
	name := key.Name + "/cryptoKeyVersions/1"
	for {
		version, err := w.client.GetCryptoKeyVersion(w.ctx, &kmspb.GetCryptoKeyVersionRequest{Name: name})
		if err != nil {
			return err
		}
		if version.State == kmspb.CryptoKeyVersion_ENABLED {
			break
		}
	}
	half, err := w.client.GetPublicKey(w.ctx, &kmspb.GetPublicKeyRequest{Name: name})
	if err != nil {
		return err
	}
	block, _ := pem.Decode([]byte(half.Pem))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return err
	}
	if err := demand(same([]byte(half.Pem), half.PemCrc32C) && half.Algorithm == kmspb.CryptoKeyVersion_RSA_DECRYPT_OAEP_3072_SHA256, "public key"); err != nil {
		return err
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), []byte("data key"), nil)
	if err != nil {
		return err
	}
	opened, err := w.client.AsymmetricDecrypt(w.ctx, &kmspb.AsymmetricDecryptRequest{Name: name, Ciphertext: wrapped, CiphertextCrc32C: crc(wrapped)})
	if err != nil {
		return err
	}
	return demand(string(opened.Plaintext) == "data key" && opened.VerifiedCiphertextCrc32C && same(opened.Plaintext, opened.PlaintextCrc32C), "decrypted")
}

func randomBytes(w *world) error {
	request := &kmspb.GenerateRandomBytesRequest{Location: location, LengthBytes: 32, ProtectionLevel: kmspb.ProtectionLevel_HSM}
	answer, err := w.client.GenerateRandomBytes(w.ctx, request)
	if err != nil {
		return err
	}
	return demand(len(answer.Data) == 32 && same(answer.Data, answer.DataCrc32C), "%d bytes", len(answer.Data))
}

func permissions(w *world) error {
	asked := []string{"cloudkms.cryptoKeys.create"}
	answer, err := w.client.TestIamPermissions(w.ctx, &iampb.TestIamPermissionsRequest{Resource: w.ring, Permissions: asked})
	if err != nil {
		return err
	}
	return demand(len(answer.Permissions) == 1 && answer.Permissions[0] == asked[0], "%v", answer.Permissions)
}

func missing(w *world) error {
	_, err := w.client.GetCryptoKey(w.ctx, &kmspb.GetCryptoKeyRequest{Name: w.ring + "/cryptoKeys/none"})
	return refused(err, 404, "not found")
}

func main() {
	cases := []struct {
		name string
		run  func(*world) error
	}{
		{"symmetric keys", symmetricKeys}, {"rotation", rotation}, {"states", states}, {"RSA keys", rsaKeys},
		{"random bytes", randomBytes}, {"permissions", permissions}, {"missing keys", missing},
	}
	failed := 0
	for _, test := range cases {
		world, err := newWorld(context.Background())
		if err == nil {
			err = test.run(world)
		}
		if err != nil {
			failed++
			fmt.Printf("FAILED %s: %v\n", test.name, err)
			continue
		}
		fmt.Printf("ok %s\n", test.name)
	}
	fmt.Printf("%d passed, %d failed\n", len(cases)-failed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
