//! The messages between gateway and helper, as CBOR. Both sides are the same program, so they have no versions.

use std::fmt;
use std::time::Duration;

use minicbor::bytes::{ByteVec, CborLenBytes};
use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{CborLen, Decode, Encode};
use rustix::time::{ClockId, clock_gettime};
use zeroize::Zeroizing;

/// Bytes that are zeroed on drop and never printed: a PIN, a data key.
pub struct Sensitive(Zeroizing<Vec<u8>>);

impl Sensitive {
    /// Takes ownership of bytes.
    pub const fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, without a copy.
    pub fn into_inner(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sensitive({} bytes)", self.0.len())
    }
}

impl<C> Encode<C> for Sensitive {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<C> CborLen<C> for Sensitive {
    fn cbor_len(&self, context: &mut C) -> usize {
        CborLenBytes::cbor_len(self.0.as_slice(), context)
    }
}

impl<'b, C> Decode<'b, C> for Sensitive {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Ok(Self(Zeroizing::new(d.bytes()?.to_vec())))
    }
}

/// How a token is found among those of a module.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
pub enum TokenName {
    /// By its label, without trailing spaces.
    #[n(0)]
    Label(#[n(0)] String),
    /// By its serial number, without trailing spaces.
    #[n(1)]
    Serial(#[n(0)] String),
}

/// A kind of key object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum KeyKind {
    /// A secret AES key.
    #[n(0)]
    Aes,
    /// An RSA public key.
    #[n(1)]
    RsaPublic,
    /// An RSA private key.
    #[n(2)]
    RsaPrivate,
}

/// A key to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
pub enum NewKey {
    /// An AES key of 256 bits.
    #[n(0)]
    Aes256,
    /// An RSA key pair with a modulus of this many bits.
    #[n(1)]
    Rsa(#[n(0)] u16),
}

/// The hash of RSA-OAEP and of its mask generation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(index_only)]
pub enum OaepHash {
    /// SHA-1.
    #[n(0)]
    Sha1,
    /// SHA-256.
    #[n(1)]
    Sha256,
}

/// A mechanism with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
pub enum Mechanism {
    /// AES-GCM with a tag of 16 bytes.
    #[n(0)]
    Gcm {
        /// The initialization vector. Of an encryption, the one that the module may replace.
        #[n(0)]
        iv: ByteVec,
        /// The associated data.
        #[n(1)]
        aad: ByteVec,
    },
    /// RSA-OAEP without a label.
    #[n(1)]
    Oaep(#[n(0)] OaepHash),
}

/// What the gateway asks for.
#[derive(Debug, Encode, Decode, CborLen)]
pub enum Request {
    /// Loads a module and finds its token. Once, before all others.
    #[n(0)]
    Open {
        /// The module's path.
        #[n(0)]
        module: String,
        /// The token.
        #[n(1)]
        token: TokenName,
        /// The most calls of the module at once.
        #[n(2)]
        sessions: u16,
    },
    /// Logs in as the token's user.
    #[n(1)]
    Login {
        /// The PIN.
        #[n(0)]
        pin: Sensitive,
    },
    /// Describes the key objects with a `CKA_ID`.
    #[n(2)]
    Find {
        /// The `CKA_ID`.
        #[n(0)]
        id: ByteVec,
    },
    /// Generates a key on the token, unless it has one with this `CKA_ID`.
    #[n(3)]
    Generate {
        /// The `CKA_ID`.
        #[n(0)]
        id: ByteVec,
        /// The `CKA_LABEL`.
        #[n(1)]
        label: String,
        /// What to generate.
        #[n(2)]
        key: NewKey,
    },
    /// Encrypts.
    #[n(4)]
    Encrypt {
        /// The kind of key.
        #[n(0)]
        kind: KeyKind,
        /// Its `CKA_ID`.
        #[n(1)]
        id: ByteVec,
        /// The mechanism.
        #[n(2)]
        mechanism: Mechanism,
        /// The plaintext.
        #[n(3)]
        plaintext: Sensitive,
    },
    /// Decrypts.
    #[n(5)]
    Decrypt {
        /// The kind of key.
        #[n(0)]
        kind: KeyKind,
        /// Its `CKA_ID`.
        #[n(1)]
        id: ByteVec,
        /// The mechanism.
        #[n(2)]
        mechanism: Mechanism,
        /// The ciphertext.
        #[n(3)]
        ciphertext: ByteVec,
    },
}

/// A token, as the module describes it. All texts are the module's, without trailing spaces.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
pub struct Token {
    /// The serial number.
    #[n(0)]
    pub serial: String,
    /// The label.
    #[n(1)]
    pub label: String,
    /// Manufacturer and model.
    #[n(2)]
    pub model: String,
    /// The module's description and version.
    #[n(3)]
    pub library: String,
    /// Whether the user's PIN is locked.
    #[n(4)]
    pub is_pin_locked: bool,
    /// What protects the helper's memory and does not hold, with the reason.
    #[n(5)]
    pub not_hardened: Vec<String>,
    /// Whether a flag says that the user gave a wrong PIN since the last right one.
    #[n(6)]
    pub has_wrong_pin: bool,
}

/// A key object of a token. A flag is `None` where the token does not say.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
pub struct KeyObject {
    /// The kind.
    #[n(0)]
    pub kind: KeyKind,
    /// The length of an AES key or of an RSA modulus; 0 where the token does not say.
    #[n(1)]
    pub bits: u32,
    /// `CKA_LABEL`.
    #[n(2)]
    pub label: String,
    /// `CKA_ENCRYPT`.
    #[n(3)]
    pub encrypt: Option<bool>,
    /// `CKA_DECRYPT`.
    #[n(4)]
    pub decrypt: Option<bool>,
    /// `CKA_SENSITIVE`.
    #[n(5)]
    pub sensitive: Option<bool>,
    /// `CKA_EXTRACTABLE`.
    #[n(6)]
    pub extractable: Option<bool>,
    /// `CKA_ALWAYS_AUTHENTICATE`.
    #[n(7)]
    pub always_authenticate: Option<bool>,
}

/// What the helper answers.
#[derive(Debug, Encode, Decode, CborLen)]
pub enum Output {
    /// To [`Request::Open`].
    #[n(0)]
    Opened(#[n(0)] Token),
    /// To [`Request::Login`] and [`Request::Generate`].
    #[n(1)]
    Done,
    /// To [`Request::Find`]: keys of the kinds of [`KeyKind`], and the number of other objects is not reported.
    #[n(2)]
    Keys(#[n(0)] Vec<KeyObject>),
    /// To [`Request::Encrypt`].
    #[n(3)]
    Encrypted {
        /// The initialization vector after the call, empty for a mechanism without one.
        #[n(0)]
        iv: ByteVec,
        /// What the module returned.
        #[n(1)]
        output: ByteVec,
    },
    /// To [`Request::Decrypt`].
    #[n(4)]
    Decrypted(#[n(0)] Sensitive),
    /// To any of them.
    #[n(5)]
    Refused(#[n(0)] Refused),
}

/// Why a request was not served.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
pub struct Refused {
    /// The function of the module that failed, such as `C_Decrypt`; empty for a refusal of the helper's own.
    #[n(0)]
    pub function: String,
    /// The module's return value by its name, such as `CKR_PIN_INCORRECT`, or one of [`code`].
    #[n(1)]
    pub code: String,
    /// The cause on this machine, for the operator; empty where there is none.
    #[n(2)]
    pub cause: String,
    /// Of a login: [`Token::has_wrong_pin`] after it; `None` where the token's flags cannot be read.
    #[n(3)]
    pub has_wrong_pin: Option<bool>,
}

/// The helper's own codes.
pub mod code {
    /// The file is no PKCS#11 module, or cannot be loaded.
    pub const NO_MODULE: &str = "NO_MODULE";
    /// The module has no such token.
    pub const NO_TOKEN: &str = "NO_TOKEN";
    /// The token does not answer any more: it was removed, or its files are away.
    pub const TOKEN_GONE: &str = "TOKEN_GONE";
    /// Several tokens have the name.
    pub const SEVERAL_TOKENS: &str = "SEVERAL_TOKENS";
    /// The token has no such key.
    pub const NO_KEY: &str = "NO_KEY";
    /// Several keys of one kind have the `CKA_ID`.
    pub const SEVERAL_KEYS: &str = "SEVERAL_KEYS";
    /// The token has a key with the `CKA_ID` already.
    pub const KEY_EXISTS: &str = "KEY_EXISTS";
    /// The token has forgotten the login, so it shows no private key.
    pub const LOGGED_OUT: &str = "LOGGED_OUT";
    /// The request's time was over before its turn came.
    pub const TOO_LATE: &str = "TOO_LATE";
    /// The request makes no sense to the helper.
    pub const BAD_REQUEST: &str = "BAD_REQUEST";
}

/// A request with its number and the time until which it may wait for its turn.
#[derive(Debug, Encode, Decode, CborLen)]
pub struct Asked<T> {
    /// Chosen by the gateway; the answer repeats it.
    #[n(0)]
    pub number: u64,
    /// Nanoseconds of [`monotonic`].
    #[n(1)]
    until: u64,
    /// The request.
    #[n(2)]
    pub request: T,
}

impl<T> Asked<T> {
    /// A request that may wait for its turn for as long as `patience`, from now on.
    pub fn new(number: u64, patience: Duration, request: T) -> Self {
        let patience = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        Self {
            number,
            until: monotonic().saturating_add(patience),
            request,
        }
    }

    /// Whether its turn came too late.
    pub fn is_late(&self) -> bool {
        self.until < monotonic()
    }
}

/// The system's clock since its start in nanoseconds, which gateway and helper share (clock_gettime(2),
/// `CLOCK_MONOTONIC`).
fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let [seconds, nanoseconds] = [now.tv_sec, now.tv_nsec].map(|part| u64::try_from(part).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// An answer.
#[derive(Debug, Encode, Decode, CborLen)]
pub struct Answered {
    /// The number of the request.
    #[n(0)]
    pub number: u64,
    /// The answer.
    #[n(1)]
    pub output: Output,
}
