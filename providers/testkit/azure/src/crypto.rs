//! Key material and cryptography.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::key_wrap::{AES_128, AES_256, AesKek, KeyWrap};
use aws_lc_rs::rsa::{
    KeyPair as RsaKeyPair, KeyPairComponents, KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey,
    OaepPublicEncryptingKey, PrivateDecryptingKey, PublicKeyComponents,
};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The lengths of AES-GCM's nonce and tag, in bytes.
const IV: usize = 12;
const TAG: usize = 16;

/// A cryptographic operation failed. It carries no reason.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CryptoError;

type Result<T> = std::result::Result<T, CryptoError>;

/// Random bytes.
pub(crate) fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    // Without the system's generator the result is empty, and every key generated from it fails.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        bytes.clear();
    }
    bytes
}

/// Random bytes in hex.
pub(crate) fn random_hex(len: usize) -> String {
    hex::encode(random(len))
}

/// A parsed RSA key pair. Parsing costs more than using it, so it happens once.
pub(crate) struct Rsa {
    private: OaepPrivateDecryptingKey,
    public: OaepPublicEncryptingKey,
    pub(crate) modulus: Vec<u8>,
    pub(crate) exponent: Vec<u8>,
}

/// The key material of a version.
#[derive(Clone)]
pub(crate) enum Material {
    /// RSA.
    Rsa(Arc<Rsa>),
    /// An EC key: only its public point, because such keys exist to be refused.
    Ec { x: Vec<u8>, y: Vec<u8> },
    /// AES.
    Oct(Vec<u8>),
}

/// The result of an encryption.
pub(crate) struct Encrypted {
    pub(crate) value: Vec<u8>,
    /// The nonce and tag; `None` for algorithms other than AES-GCM.
    pub(crate) sealed: Option<Sealed>,
}

/// The nonce and tag of AES-GCM.
pub(crate) struct Sealed {
    pub(crate) iv: Vec<u8>,
    pub(crate) tag: Vec<u8>,
}

/// The inputs of AES-GCM beside the ciphertext.
pub(crate) struct AeadInput<'a> {
    pub(crate) iv: &'a [u8],
    pub(crate) tag: &'a [u8],
    pub(crate) aad: &'a [u8],
}

impl Material {
    /// Generates an RSA key, which takes a second or more of CPU time.
    pub(crate) fn rsa(bits: u64) -> Result<Self> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            _ => return Err(CryptoError),
        };
        Self::of(PrivateDecryptingKey::generate(size).map_err(|_| CryptoError)?)
    }

    /// An RSA key from the numbers of a JSON Web Key: n, e, d, p, q, dp, dq, qi.
    pub(crate) fn from_numbers(numbers: &[&[u8]; 8]) -> Result<Self> {
        let [n, e, d, p, q, dp, dq, qi] = *numbers;
        let key = RsaKeyPair::from_components(&KeyPairComponents {
            public_key: PublicKeyComponents { n, e },
            d,
            p,
            q,
            dP: dp,
            dQ: dq,
            qInv: qi,
        });
        let key = key.map_err(|_| CryptoError)?;
        let der: Pkcs8V1Der<'_> = key.as_der().map_err(|_| CryptoError)?;
        Self::of(PrivateDecryptingKey::from_pkcs8(der.as_ref()).map_err(|_| CryptoError)?)
    }

    fn of(key: PrivateDecryptingKey) -> Result<Self> {
        let der: PublicKeyX509Der<'_> = key.public_key().as_der().map_err(|_| CryptoError)?;
        let (_, info) = SubjectPublicKeyInfo::from_der(der.as_ref()).map_err(|_| CryptoError)?;
        let (modulus, exponent) = match info.parsed() {
            Ok(PublicKey::RSA(public)) => (unsigned(public.modulus), unsigned(public.exponent)),
            Ok(_) | Err(_) => return Err(CryptoError),
        };
        Ok(Self::Rsa(Arc::new(Rsa {
            public: OaepPublicEncryptingKey::new(key.public_key()).map_err(|_| CryptoError)?,
            private: OaepPrivateDecryptingKey::new(key).map_err(|_| CryptoError)?,
            modulus,
            exponent,
        })))
    }

    /// Generates an EC key on P-256.
    pub(crate) fn ec() -> Result<Self> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| CryptoError)?;
        // An uncompressed point: a format byte and two coordinates.
        let point = key.public_key().as_ref();
        match (point.get(1..33), point.get(33..65)) {
            (Some(x), Some(y)) => Ok(Self::Ec {
                x: x.to_vec(),
                y: y.to_vec(),
            }),
            (_, _) => Err(CryptoError),
        }
    }

    /// Encrypts or wraps with an algorithm, by Azure's name of it.
    pub(crate) fn encrypt(&self, algorithm: &str, plaintext: &[u8], aad: &[u8]) -> Result<Encrypted> {
        let value = match (self, algorithm) {
            (Self::Rsa(key), _) => {
                let scheme = oaep(algorithm)?;
                let mut ciphertext = vec![0; key.public.ciphertext_size()];
                let encrypted = key.public.encrypt(scheme, plaintext, &mut ciphertext, None);
                encrypted.map_err(|_| CryptoError)?;
                ciphertext
            }
            (Self::Oct(key), "A128KW" | "A256KW") => {
                let mut wrapped = vec![0; plaintext.len() + 8];
                let len = kek(key, algorithm)?.wrap(plaintext, &mut wrapped).map_err(|_| CryptoError)?.len();
                wrapped.truncate(len);
                wrapped
            }
            (Self::Oct(key), "A128GCM" | "A192GCM" | "A256GCM") => {
                let iv = random(IV);
                let nonce = Nonce::try_assume_unique_for_key(&iv).map_err(|_| CryptoError)?;
                let mut value = plaintext.to_vec();
                let tag = gcm(key, algorithm)?
                    .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut value)
                    .map_err(|_| CryptoError)?;
                let tag = tag.as_ref().to_vec();
                return Ok(Encrypted {
                    value,
                    sealed: Some(Sealed { iv, tag }),
                });
            }
            (Self::Oct(_) | Self::Ec { .. }, _) => return Err(CryptoError),
        };
        Ok(Encrypted { value, sealed: None })
    }

    /// Decrypts or unwraps with an algorithm, by Azure's name of it.
    pub(crate) fn decrypt(&self, algorithm: &str, ciphertext: &[u8], aead: &AeadInput<'_>) -> Result<Vec<u8>> {
        match (self, algorithm) {
            (Self::Rsa(key), _) => {
                let scheme = oaep(algorithm)?;
                let mut buffer = vec![0; key.private.min_output_size()];
                let plaintext = key
                    .private
                    .decrypt(scheme, ciphertext, &mut buffer, None)
                    .map_err(|_| CryptoError)?;
                Ok(plaintext.to_vec())
            }
            (Self::Oct(key), "A128KW" | "A256KW") => {
                let mut buffer = vec![0; ciphertext.len()];
                let plaintext = kek(key, algorithm)?.unwrap(ciphertext, &mut buffer).map_err(|_| CryptoError)?;
                Ok(plaintext.to_vec())
            }
            (Self::Oct(key), "A128GCM" | "A192GCM" | "A256GCM") => {
                if aead.tag.len() != TAG {
                    return Err(CryptoError);
                }
                let nonce = Nonce::try_assume_unique_for_key(aead.iv).map_err(|_| CryptoError)?;
                let mut both = [ciphertext, aead.tag].concat();
                let plaintext = gcm(key, algorithm)?
                    .open_in_place(nonce, Aad::from(aead.aad), &mut both)
                    .map_err(|_| CryptoError)?;
                Ok(plaintext.to_vec())
            }
            (Self::Oct(_) | Self::Ec { .. }, _) => Err(CryptoError),
        }
    }
}

fn oaep(algorithm: &str) -> Result<&'static OaepAlgorithm> {
    match algorithm {
        "RSA-OAEP" => Ok(&OAEP_SHA1_MGF1SHA1),
        "RSA-OAEP-256" => Ok(&OAEP_SHA256_MGF1SHA256),
        _ => Err(CryptoError),
    }
}

/// Whether an algorithm takes a key of this length.
fn fits(key: &[u8], algorithm: &str) -> bool {
    algorithm.get(1..4).and_then(|bits| bits.parse::<usize>().ok()) == Some(key.len() * 8)
}

fn kek(key: &[u8], algorithm: &str) -> Result<AesKek> {
    let cipher = match (fits(key, algorithm), key.len()) {
        (true, 16) => &AES_128,
        (true, 32) => &AES_256,
        (_, _) => return Err(CryptoError),
    };
    AesKek::new(cipher, key).map_err(|_| CryptoError)
}

fn gcm(key: &[u8], algorithm: &str) -> Result<LessSafeKey> {
    let cipher = match (fits(key, algorithm), key.len()) {
        (true, 16) => &AES_128_GCM,
        (true, 24) => &AES_192_GCM,
        (true, 32) => &AES_256_GCM,
        (_, _) => return Err(CryptoError),
    };
    UnboundKey::new(cipher, key).map(LessSafeKey::new).map_err(|_| CryptoError)
}

/// A big-endian number without leading zeros.
fn unsigned(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|byte| *byte == 0).collect()
}
