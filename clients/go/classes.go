package claviger

// class is a set of error codes that callers treat alike.
type class struct {
	text  string
	above *class
}

func (c *class) Error() string {
	return "claviger: " + c.text
}

func newClass(text string) *class {
	return &class{text: text}
}

func (c *class) below(text string) *class {
	return &class{text: text, above: c}
}

// The classes of errors, for errors.Is. An error is also of the class that is named in parentheses.
var (
	// The gateway refuses the request as it is; Places of the error has the places.
	ErrInvalidRequest = newClass("invalid request")
	// The wrapped key is damaged, is none, or is of a later version of the format (ErrInvalidRequest).
	ErrInvalidEnvelope = ErrInvalidRequest.below("invalid wrapped key")
	// There is no valid token: it is expired, revoked or damaged.
	ErrUnauthenticated = newClass("unauthenticated")
	// The token does not permit the operation. It is the same whether or not the object exists.
	ErrPermissionDenied = newClass("permission denied")
	// There is no such object.
	ErrNotFound = newClass("not found")
	// The request does not go with the state of an object, or with another request.
	ErrConflict = newClass("conflict")
	// The name or the provider key is taken (ErrConflict).
	ErrAlreadyExists = ErrConflict.below("already exists")
	// A request with this idempotency key has made the token, whose text was shown once (ErrConflict). CreatedID is its id.
	ErrAlreadyCreated = ErrConflict.below("already created")
	// The object changed since its etag was read: read it again, then decide again (ErrConflict).
	ErrPreconditionFailed = ErrConflict.below("precondition failed")
	// The tenant has as many objects, or as many bytes of audit records today, as its quota allows (ErrConflict).
	ErrQuotaExceeded = ErrConflict.below("quota exceeded")
	// The key is switched off: disabled, in a state without this use, or on a severed connection.
	ErrKeyUnusable = newClass("key unusable")
	// The wrapped key does not open: another key, tenant or context. The gateway does not say which.
	ErrCiphertextRejected = newClass("ciphertext rejected")
	// The key's provider refuses the call, is set up wrongly, or does not work.
	ErrProvider = newClass("provider failed")
	// The provider refuses the gateway, or the owner of an external key denies the call (ErrProvider).
	ErrProviderDenied = ErrProvider.below("provider denied")
	// The provider is not reached or fails, or the gateway pauses the calls to it (ErrProvider).
	ErrProviderUnavailable = ErrProvider.below("provider unavailable")
	// The credential, the tenant or the connection has its share under way, or the provider throttles.
	ErrRateLimited = newClass("rate limited")
	// The provider, or this gateway, does not support the operation.
	ErrUnsupported = newClass("unsupported")
	// The deadline passed, here or at the gateway. RequestID is empty if it passed here.
	ErrDeadlineExceeded = newClass("deadline exceeded")
	// The gateway cannot serve the request now.
	ErrUnavailable = newClass("unavailable")
	// The revocation took effect, but is not yet recorded, or ends when the gateway ends.
	ErrRevocationNotDurable = newClass("revocation not durable")
	// No usable response came from a gateway. MaybeExecuted says whether the request may have been carried out.
	ErrTransport = newClass("no usable response")
	// The connection was refused or could not be made. Nothing was sent (ErrTransport).
	ErrGatewayUnreachable = ErrTransport.below("gateway unreachable")
	// The gateway's certificate is not trusted. Nothing was sent (ErrTransport).
	ErrUntrustedCertificate = ErrTransport.below("certificate not trusted")
	// The connection ended before a response came (ErrTransport).
	ErrConnectionLost = ErrTransport.below("connection lost")
	// The response ended too early (ErrTransport).
	ErrTruncatedResponse = ErrTransport.below("response truncated")
	// The response is not one of a gateway, such as the HTML page of a proxy (ErrTransport).
	ErrUnexpectedResponse = ErrTransport.below("unexpected response")
	// There is no usable token to send: the file is missing, unreadable or no token.
	ErrToken = newClass("token unusable")
	// An encrypted file does not open because of its own bytes. Another attempt gives the same; take another copy.
	ErrFile = newClass("file not opened")
	// This is not a file that a Claviger client encrypted (ErrFile).
	ErrFileUnrecognized = ErrFile.below("file unrecognized")
	// A later release wrote the file, in another version of the format (ErrFile).
	ErrFileVersion = ErrFile.below("file version unsupported")
	// The end of the file is missing (ErrFile).
	ErrFileTruncated = ErrFile.below("file truncated")
	// The wrapped key is that of another file, or the beginning of the file was changed (ErrFile).
	ErrFileHeaderMismatch = ErrFile.below("file header mismatch")
	// A part of the file was changed, moved, taken away or added (ErrFile).
	ErrFileDamaged = ErrFile.below("file damaged")
)

// classes has the class of each code. CodeInternal and CodeCanceled are of none.
var classes = map[ErrorCode]*class{
	CodeInvalidRequest:             ErrInvalidRequest,
	CodeInvalidEnvelope:            ErrInvalidEnvelope,
	CodeEnvelopeVersionUnsupported: ErrInvalidEnvelope,
	CodeOperatorOnlySetting:        ErrInvalidRequest,
	CodeConnectionRefusedAtCheck:   ErrInvalidRequest,
	CodeUnauthenticated:            ErrUnauthenticated,
	CodePermissionDenied:           ErrPermissionDenied,
	CodeNotFound:                   ErrNotFound,
	CodeMethodNotAllowed:           ErrInvalidRequest,
	CodeTooLarge:                   ErrInvalidRequest,
	CodeUnsupportedMediaType:       ErrInvalidRequest,
	CodeAlreadyExists:              ErrAlreadyExists,
	CodeAlreadyCreated:             ErrAlreadyCreated,
	CodeInProgress:                 ErrConflict,
	CodeIdempotencyMismatch:        ErrConflict,
	CodeProviderKeyTaken:           ErrAlreadyExists,
	CodeKeyDisabled:                ErrKeyUnusable,
	CodeKeyState:                   ErrKeyUnusable,
	CodeConnectionSevered:          ErrKeyUnusable,
	CodeInUse:                      ErrConflict,
	CodeManagedByConfig:            ErrConflict,
	CodeQuotaExceeded:              ErrQuotaExceeded,
	CodePreconditionFailed:         ErrPreconditionFailed,
	CodeCiphertextRejected:         ErrCiphertextRejected,
	CodeProviderDenied:             ErrProviderDenied,
	CodeExternalDenied:             ErrProviderDenied,
	CodeConnectionMisconfigured:    ErrProvider,
	CodeRateLimited:                ErrRateLimited,
	CodeUnsupported:                ErrUnsupported,
	CodeProviderProtocol:           ErrProvider,
	CodeProviderUnavailable:        ErrProviderUnavailable,
	CodeCircuitOpen:                ErrProviderUnavailable,
	CodeAuditUnavailable:           ErrUnavailable,
	CodeEffectiveNotRecorded:       ErrRevocationNotDurable,
	CodeEffectiveInMemoryOnly:      ErrRevocationNotDurable,
	CodeNotReady:                   ErrUnavailable,
	CodeDeadlineExceeded:           ErrDeadlineExceeded,
	CodeGatewayUnreachable:         ErrGatewayUnreachable,
	CodeCertificateUntrusted:       ErrUntrustedCertificate,
	CodeConnectionLost:             ErrConnectionLost,
	CodeResponseTruncated:          ErrTruncatedResponse,
	CodeUnexpectedResponse:         ErrUnexpectedResponse,
	CodeTokenUnusable:              ErrToken,
	CodeFileUnrecognized:           ErrFileUnrecognized,
	CodeFileVersion:                ErrFileVersion,
	CodeFileTruncated:              ErrFileTruncated,
	CodeFileHeaderMismatch:         ErrFileHeaderMismatch,
	CodeFileDamaged:                ErrFileDamaged,
}
