// A small KMIP 1.4 server for tests, on the library kmip-go: its codec and ours know nothing of each other.
// Symmetric keys in memory, or with -keys in a file, AES-GCM with associated data, Re-key, and the states of the
// specification: an active key encrypts and decrypts, a deactivated one only decrypts. A client sees the keys that it made
// (by the common name of its certificate). For tests alone: it guards nothing.
package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/kmipserver"
	"github.com/ovh/kmip-go/payloads"
)

type key struct {
	owner       string
	names       []kmip.Name
	material    []byte
	usage       kmip.CryptographicUsageMask
	state       kmip.State
	made        time.Time
	sensitive   bool
	extractable bool
}

// A key in a file. The library writes its enumerations as words, and reads none.
type kept struct {
	Owner                  string
	Names                  []string
	Material               []byte
	Usage, State           int64
	Made                   time.Time
	Sensitive, Extractable bool
}

func (k *key) MarshalJSON() ([]byte, error) {
	names := []string{}
	for _, name := range k.names {
		names = append(names, name.NameValue)
	}
	return json.Marshal(kept{k.owner, names, k.material, int64(k.usage), int64(k.state), k.made, k.sensitive, k.extractable})
}

func (k *key) UnmarshalJSON(text []byte) error {
	read := kept{}
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	names := []kmip.Name{}
	for _, name := range read.Names {
		names = append(names, kmip.Name{NameValue: name, NameType: kmip.NameTypeUninterpretedTextString})
	}
	*k = key{
		read.Owner, names, read.Material, kmip.CryptographicUsageMask(read.Usage), kmip.State(read.State), read.Made, read.Sensitive,
		read.Extractable,
	}
	return nil
}

type store struct {
	sync.Mutex
	keys map[string]*key
	// Where they are kept, if not in memory alone.
	file   string
	faults faults
}

// Reads the keys of an earlier run.
func (s *store) load() {
	text, err := os.ReadFile(s.file)
	if s.file == "" || os.IsNotExist(err) {
		return
	}
	if err == nil {
		err = json.Unmarshal(text, &s.keys)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// Keeps the keys. The store is locked.
func (s *store) keep() {
	if s.file == "" {
		return
	}
	text, err := json.Marshal(s.keys)
	if err == nil {
		err = os.WriteFile(s.file+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(s.file+".new", s.file)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// The file with the name of the fault that decryptions have, read at each of them. Each is noted by a byte in the file of
// the same name with ".decryptions". As the PKCS#11 module with faults (tests/support/src/faulty.c).
type faults struct {
	sync.Mutex
	file string
}

// Notes a decryption, and does what its fault says. Returns the fault; an error is the refusal.
func (f *faults) decryption(ctx context.Context) (string, error) {
	if f.file == "" {
		return "", nil
	}
	name := f.next()
	switch name {
	case "reject":
		return name, refuse(kmip.ResultReasonPermissionDenied, "the owner denies it")
	case "hang-decrypt":
		<-ctx.Done()
		return name, ctx.Err()
	case "pause-decrypt":
		time.Sleep(500 * time.Millisecond)
	case "slow-decrypt-once":
		time.Sleep(2 * time.Second)
	}
	return name, nil
}

func (f *faults) next() string {
	f.Lock()
	defer f.Unlock()
	name, err := os.ReadFile(f.file)
	if err == nil && strings.HasSuffix(string(name), "-once") {
		// Over before the decryption is noted, so that the next one has it not.
		err = os.WriteFile(f.file, nil, 0o600)
	}
	if err != nil {
		log.Fatal(err)
	}
	noted, err := os.OpenFile(f.file+".decryptions", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = noted.WriteString("x")
		noted.Close()
	}
	if err != nil {
		log.Fatal(err)
	}
	return string(name)
}

func refuse(reason kmip.ResultReason, why string) error {
	return kmipserver.Errorf(reason, "%s", why)
}

func random(length int) []byte {
	bytes := make([]byte, length)
	if _, err := rand.Read(bytes); err != nil {
		log.Fatal(err)
	}
	return bytes
}

func caller(ctx context.Context) string {
	if certificates := kmipserver.PeerCertificates(ctx); len(certificates) > 0 {
		return certificates[0].Subject.CommonName
	}
	return ""
}

// The key of an identifier. The store is locked.
func (s *store) find(ctx context.Context, id string) (*key, error) {
	found, ok := s.keys[id]
	if !ok {
		return nil, kmipserver.ErrItemNotFound
	}
	if found.owner != caller(ctx) {
		return nil, kmipserver.ErrPermissionDenied
	}
	return found, nil
}

func (s *store) create(ctx context.Context, request *payloads.CreateRequestPayload) (*payloads.CreateResponsePayload, error) {
	if request.ObjectType != kmip.ObjectTypeSymmetricKey {
		return nil, refuse(kmip.ResultReasonInvalidField, "only symmetric keys")
	}
	made := &key{owner: caller(ctx), state: kmip.StatePreActive, made: time.Now(), extractable: true}
	bits := int32(0)
	for _, attribute := range request.TemplateAttribute.Attribute {
		switch value := attribute.AttributeValue.(type) {
		case kmip.Name:
			made.names = append(made.names, value)
		case kmip.CryptographicUsageMask:
			made.usage = value
		case kmip.CryptographicAlgorithm:
			if value != kmip.CryptographicAlgorithmAES {
				return nil, refuse(kmip.ResultReasonInvalidField, "only AES")
			}
		case int32:
			bits = value
		case bool:
			switch attribute.AttributeName {
			case kmip.AttributeNameSensitive:
				made.sensitive = value
			case kmip.AttributeNameExtractable:
				made.extractable = value
			}
		default:
			return nil, refuse(kmip.ResultReasonInvalidField, "an attribute that a client does not set")
		}
	}
	if bits != 128 && bits != 256 {
		return nil, refuse(kmip.ResultReasonInvalidField, "128 or 256 bits")
	}
	made.material = random(int(bits / 8))
	s.Lock()
	defer s.Unlock()
	return &payloads.CreateResponsePayload{ObjectType: request.ObjectType, UniqueIdentifier: s.add(made)}, nil
}

func (s *store) add(made *key) string {
	id := hex.EncodeToString(random(16))
	s.keys[id] = made
	s.keep()
	return id
}

func (s *store) rekey(ctx context.Context, request *payloads.RekeyRequestPayload) (*payloads.RekeyResponsePayload, error) {
	s.Lock()
	defer s.Unlock()
	old, err := s.find(ctx, request.UniqueIdentifier)
	if err != nil {
		return nil, err
	}
	made := *old
	made.material, made.state, made.made = random(len(old.material)), kmip.StatePreActive, time.Now()
	// The replacement takes the names over.
	old.names = nil
	return &payloads.RekeyResponsePayload{UniqueIdentifier: s.add(&made)}, nil
}

func (s *store) locate(ctx context.Context, request *payloads.LocateRequestPayload) (*payloads.LocateResponsePayload, error) {
	s.Lock()
	defer s.Unlock()
	found := &payloads.LocateResponsePayload{}
	for id, candidate := range s.keys {
		matches := candidate.owner == caller(ctx)
		for _, attribute := range request.Attribute {
			switch value := attribute.AttributeValue.(type) {
			case kmip.Name:
				matches = matches && slices.Contains(candidate.names, value)
			case kmip.ObjectType:
				matches = matches && value == kmip.ObjectTypeSymmetricKey
			default:
				return nil, refuse(kmip.ResultReasonInvalidField, "an attribute that is not searched for")
			}
		}
		if matches && (request.MaximumItems == 0 || len(found.UniqueIdentifier) < int(request.MaximumItems)) {
			found.UniqueIdentifier = append(found.UniqueIdentifier, id)
		}
	}
	return found, nil
}

func (s *store) attributes(ctx context.Context, request *payloads.GetAttributesRequestPayload) (*payloads.GetAttributesResponsePayload, error) {
	s.Lock()
	defer s.Unlock()
	found, err := s.find(ctx, request.UniqueIdentifier)
	if err != nil {
		return nil, err
	}
	response := &payloads.GetAttributesResponsePayload{UniqueIdentifier: request.UniqueIdentifier}
	add := func(name kmip.AttributeName, value any) {
		if len(request.AttributeName) == 0 || slices.Contains(request.AttributeName, name) {
			response.Attribute = append(response.Attribute, kmip.Attribute{AttributeName: name, AttributeValue: value})
		}
	}
	add(kmip.AttributeNameObjectType, kmip.ObjectTypeSymmetricKey)
	add(kmip.AttributeNameCryptographicAlgorithm, kmip.CryptographicAlgorithmAES)
	add(kmip.AttributeNameCryptographicLength, int32(len(found.material)*8))
	add(kmip.AttributeNameCryptographicUsageMask, found.usage)
	add(kmip.AttributeNameState, found.state)
	add(kmip.AttributeNameInitialDate, found.made)
	add(kmip.AttributeNameSensitive, found.sensitive)
	add(kmip.AttributeNameExtractable, found.extractable)
	for _, name := range found.names {
		add(kmip.AttributeNameName, name)
	}
	return response, nil
}

func (s *store) activate(ctx context.Context, request *payloads.ActivateRequestPayload) (*payloads.ActivateResponsePayload, error) {
	s.Lock()
	defer s.Unlock()
	found, err := s.find(ctx, request.UniqueIdentifier)
	if err != nil {
		return nil, err
	}
	if found.state != kmip.StatePreActive {
		return nil, refuse(kmip.ResultReasonPermissionDenied, "only a pre-active key is activated")
	}
	found.state = kmip.StateActive
	s.keep()
	return &payloads.ActivateResponsePayload{UniqueIdentifier: request.UniqueIdentifier}, nil
}

func (s *store) revoke(ctx context.Context, request *payloads.RevokeRequestPayload) (*payloads.RevokeResponsePayload, error) {
	s.Lock()
	defer s.Unlock()
	found, err := s.find(ctx, request.UniqueIdentifier)
	if err != nil {
		return nil, err
	}
	found.state = kmip.StateDeactivated
	s.keep()
	return &payloads.RevokeResponsePayload{UniqueIdentifier: request.UniqueIdentifier}, nil
}

func (s *store) destroy(ctx context.Context, request *payloads.DestroyRequestPayload) (*payloads.DestroyResponsePayload, error) {
	s.Lock()
	defer s.Unlock()
	found, err := s.find(ctx, request.UniqueIdentifier)
	if err != nil {
		return nil, err
	}
	if found.state == kmip.StateActive {
		return nil, refuse(kmip.ResultReasonPermissionDenied, "an active key is revoked first")
	}
	found.state, found.material = kmip.StateDestroyed, nil
	s.keep()
	return &payloads.DestroyResponsePayload{UniqueIdentifier: request.UniqueIdentifier}, nil
}

// The cipher of a key, for an initialization vector of this length.
func (s *store) cipher(ctx context.Context, id string, use kmip.CryptographicUsageMask, parameters *kmip.CryptographicParameters, iv int) (cipher.AEAD, error) {
	s.Lock()
	defer s.Unlock()
	found, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	processes := found.state == kmip.StateActive || (found.state == kmip.StateDeactivated && use == kmip.CryptographicUsageDecrypt)
	if !processes || found.usage&use == 0 {
		return nil, refuse(kmip.ResultReasonPermissionDenied, "the key's state or usage mask forbids it")
	}
	// The specification has the one length in bytes, and the other in bits.
	if parameters == nil || parameters.BlockCipherMode != kmip.BlockCipherModeGCM || parameters.TagLength != 16 || parameters.IVLength != int32(iv*8) {
		return nil, refuse(kmip.ResultReasonInvalidField, "GCM with a tag of 16 bytes, and the vector's length in bits")
	}
	block, err := aes.NewCipher(found.material)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithNonceSize(block, iv)
}

func (s *store) encrypt(ctx context.Context, request *payloads.EncryptRequestPayload) (*payloads.EncryptResponsePayload, error) {
	response := &payloads.EncryptResponsePayload{UniqueIdentifier: request.UniqueIdentifier}
	iv := request.IVCounterNonce
	if len(iv) == 0 {
		parameters := request.CryptographicParameters
		if parameters == nil || parameters.RandomIV == nil || !*parameters.RandomIV || parameters.IVLength < 8 || parameters.IVLength > 128 {
			return nil, refuse(kmip.ResultReasonInvalidField, "a random vector, with its length")
		}
		iv = random(int(parameters.IVLength / 8))
		response.IVCounterNonce = iv
	}
	aead, err := s.cipher(ctx, request.UniqueIdentifier, kmip.CryptographicUsageEncrypt, request.CryptographicParameters, len(iv))
	if err != nil {
		return nil, err
	}
	sealed := aead.Seal(nil, iv, request.Data, request.AuthenticatedEncryptionAdditionalData)
	response.Data, response.AuthenticatedEncryptionTag = sealed[:len(request.Data)], sealed[len(request.Data):]
	return response, nil
}

func (s *store) decrypt(ctx context.Context, request *payloads.DecryptRequestPayload) (*payloads.DecryptResponsePayload, error) {
	fault, err := s.faults.decryption(ctx)
	if err != nil {
		return nil, err
	}
	aead, err := s.cipher(ctx, request.UniqueIdentifier, kmip.CryptographicUsageDecrypt, request.CryptographicParameters, len(request.IVCounterNonce))
	if err != nil {
		return nil, err
	}
	sealed := append(slices.Clone(request.Data), request.AuthenticatedEncryptionTag...)
	opened, err := aead.Open(nil, request.IVCounterNonce, sealed, request.AuthenticatedEncryptionAdditionalData)
	if err != nil {
		return nil, refuse(kmip.ResultReasonCryptographicFailure, "the tag is wrong")
	}
	if fault == "wrong-plaintext" {
		opened[0] ^= 1
	}
	return &payloads.DecryptResponsePayload{UniqueIdentifier: request.UniqueIdentifier, Data: opened}, nil
}

func query(offered []kmip.Operation) func(context.Context, *payloads.QueryRequestPayload) (*payloads.QueryResponsePayload, error) {
	return func(context.Context, *payloads.QueryRequestPayload) (*payloads.QueryResponsePayload, error) {
		return &payloads.QueryResponsePayload{Operations: offered, VendorIdentification: "kmip-go test server"}, nil
	}
}

// Reports each request's Client Correlation Value, and gives each response an id of the server's.
func correlated(next kmipserver.Next, ctx context.Context, request *kmip.RequestMessage) (*kmip.ResponseMessage, error) {
	response, err := next(ctx, request)
	if response != nil && request.Header.ProtocolVersion == kmip.V1_4 {
		response.Header.ServerCorrelationValue = "server-" + hex.EncodeToString(random(8))
		log.Printf("%v client=%q server=%q", request.BatchItem[0].Operation, request.Header.ClientCorrelationValue, response.Header.ServerCorrelationValue)
	}
	return response, err
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "the address")
	certificate, private := flag.String("certificate", "", "the certificate's file"), flag.String("key", "", "its key's file")
	authority := flag.String("ca", "", "the file of the clients' authority")
	versions := flag.String("versions", "1.0,1.1,1.2,1.3,1.4", "the versions to speak")
	file := flag.String("keys", "", "the file in which the keys are kept; in memory alone without it")
	fault := flag.String("switch", "", "the file with the name of the fault that decryptions have; none without it")
	flag.Parse()
	pair, err := tls.LoadX509KeyPair(*certificate, *private)
	if err != nil {
		log.Fatal(err)
	}
	pem, err := os.ReadFile(*authority)
	if err != nil {
		log.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	listener, err := tls.Listen("tcp", *listen, &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12,
	})
	if err != nil {
		log.Fatal(err)
	}

	keys := &store{keys: map[string]*key{}, file: *file, faults: faults{file: *fault}}
	keys.load()
	executor := kmipserver.NewBatchExecutor()
	spoken := []kmip.ProtocolVersion{}
	for version := range strings.SplitSeq(*versions, ",") {
		parsed := kmip.ProtocolVersion{}
		if _, err := fmt.Sscanf(version, "%d.%d", &parsed.ProtocolVersionMajor, &parsed.ProtocolVersionMinor); err != nil {
			log.Fatal(err)
		}
		spoken = append(spoken, parsed)
	}
	executor.SetSupportedProtocolVersions(spoken...)
	executor.Use(correlated)
	offered := []kmip.Operation{kmip.OperationDiscoverVersions, kmip.OperationQuery}
	route := func(operation kmip.Operation, handler kmipserver.OperationHandler) {
		offered = append(offered, operation)
		executor.Route(operation, handler)
	}
	route(kmip.OperationCreate, kmipserver.HandleFunc(keys.create))
	route(kmip.OperationReKey, kmipserver.HandleFunc(keys.rekey))
	route(kmip.OperationLocate, kmipserver.HandleFunc(keys.locate))
	route(kmip.OperationGetAttributes, kmipserver.HandleFunc(keys.attributes))
	route(kmip.OperationActivate, kmipserver.HandleFunc(keys.activate))
	route(kmip.OperationRevoke, kmipserver.HandleFunc(keys.revoke))
	route(kmip.OperationDestroy, kmipserver.HandleFunc(keys.destroy))
	route(kmip.OperationEncrypt, kmipserver.HandleFunc(keys.encrypt))
	route(kmip.OperationDecrypt, kmipserver.HandleFunc(keys.decrypt))
	executor.Route(kmip.OperationQuery, kmipserver.HandleFunc(query(offered)))

	server := kmipserver.NewServer(listener, executor)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-ended
		os.Exit(0)
	}()
	fmt.Println(listener.Addr())
	log.Print(server.Serve())
}
