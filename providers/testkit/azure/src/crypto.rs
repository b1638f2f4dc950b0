//! Keys and what is done with them, by aws-lc.

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

/// The nonce and the tag of AES-GCM.
const IV: usize = 12;
const TAG: usize = 16;

/// It did not work. Nothing says why.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Broken;

type Result<T> = std::result::Result<T, Broken>;

/// Random bytes.
pub(crate) fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    // The operating system's generator; a fake without it is of no use, and its keys would show it.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        bytes.clear();
    }
    bytes
}

/// Random bytes in hex.
pub(crate) fn random_hex(len: usize) -> String {
    hex::encode(random(len))
}

/// Both halves of an RSA key, read once: reading one costs more than using it.
pub(crate) struct Rsa {
    private: OaepPrivateDecryptingKey,
    public: OaepPublicEncryptingKey,
    pub(crate) modulus: Vec<u8>,
    pub(crate) exponent: Vec<u8>,
}

/// What a key is made of.
#[derive(Clone)]
pub(crate) enum Material {
    /// RSA.
    Rsa(Arc<Rsa>),
    /// Of an elliptic curve only the public point is of use here: such keys are there to be refused.
    Ec { x: Vec<u8>, y: Vec<u8> },
    /// AES.
    Oct(Vec<u8>),
}

/// What came of an encryption.
pub(crate) struct Encrypted {
    pub(crate) value: Vec<u8>,
    /// With AES-GCM.
    pub(crate) sealed: Option<Sealed>,
}

pub(crate) struct Sealed {
    pub(crate) iv: Vec<u8>,
    pub(crate) tag: Vec<u8>,
}

/// What goes with a ciphertext of AES-GCM.
pub(crate) struct Beside<'a> {
    pub(crate) iv: &'a [u8],
    pub(crate) tag: &'a [u8],
    pub(crate) aad: &'a [u8],
}

impl Material {
    /// Draws an RSA key. It takes a second or more of computing.
    pub(crate) fn rsa(bits: u64) -> Result<Self> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            _ => return Err(Broken),
        };
        Self::of(PrivateDecryptingKey::generate(size).map_err(|_| Broken)?)
    }

    /// From the numbers of a private key, as a JSON Web Key has them.
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
        let key = key.map_err(|_| Broken)?;
        let der: Pkcs8V1Der<'_> = key.as_der().map_err(|_| Broken)?;
        Self::of(PrivateDecryptingKey::from_pkcs8(der.as_ref()).map_err(|_| Broken)?)
    }

    fn of(key: PrivateDecryptingKey) -> Result<Self> {
        let der: PublicKeyX509Der<'_> = key.public_key().as_der().map_err(|_| Broken)?;
        let (_, info) = SubjectPublicKeyInfo::from_der(der.as_ref()).map_err(|_| Broken)?;
        let (modulus, exponent) = match info.parsed() {
            Ok(PublicKey::RSA(public)) => (unsigned(public.modulus), unsigned(public.exponent)),
            Ok(_) | Err(_) => return Err(Broken),
        };
        Ok(Self::Rsa(Arc::new(Rsa {
            public: OaepPublicEncryptingKey::new(key.public_key()).map_err(|_| Broken)?,
            private: OaepPrivateDecryptingKey::new(key).map_err(|_| Broken)?,
            modulus,
            exponent,
        })))
    }

    pub(crate) fn ec() -> Result<Self> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| Broken)?;
        // An uncompressed point: its form's byte and two numbers.
        let point = key.public_key().as_ref();
        match (point.get(1..33), point.get(33..65)) {
            (Some(x), Some(y)) => Ok(Self::Ec {
                x: x.to_vec(),
                y: y.to_vec(),
            }),
            (_, _) => Err(Broken),
        }
    }

    /// Encrypts or wraps by an algorithm in Azure's words.
    pub(crate) fn encrypt(&self, algorithm: &str, plaintext: &[u8], aad: &[u8]) -> Result<Encrypted> {
        let value = match (self, algorithm) {
            (Self::Rsa(key), _) => {
                let scheme = oaep(algorithm)?;
                let mut ciphertext = vec![0; key.public.ciphertext_size()];
                let made = key.public.encrypt(scheme, plaintext, &mut ciphertext, None);
                made.map_err(|_| Broken)?;
                ciphertext
            }
            (Self::Oct(key), "A128KW" | "A256KW") => {
                let mut wrapped = vec![0; plaintext.len() + 8];
                let len = kek(key, algorithm)?.wrap(plaintext, &mut wrapped).map_err(|_| Broken)?.len();
                wrapped.truncate(len);
                wrapped
            }
            (Self::Oct(key), "A128GCM" | "A192GCM" | "A256GCM") => {
                let iv = random(IV);
                let nonce = Nonce::try_assume_unique_for_key(&iv).map_err(|_| Broken)?;
                let mut value = plaintext.to_vec();
                let tag = gcm(key, algorithm)?
                    .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut value)
                    .map_err(|_| Broken)?;
                let tag = tag.as_ref().to_vec();
                return Ok(Encrypted {
                    value,
                    sealed: Some(Sealed { iv, tag }),
                });
            }
            (Self::Oct(_) | Self::Ec { .. }, _) => return Err(Broken),
        };
        Ok(Encrypted { value, sealed: None })
    }

    /// Decrypts or unwraps.
    pub(crate) fn decrypt(&self, algorithm: &str, ciphertext: &[u8], beside: &Beside<'_>) -> Result<Vec<u8>> {
        match (self, algorithm) {
            (Self::Rsa(key), _) => {
                let scheme = oaep(algorithm)?;
                let mut room = vec![0; key.private.min_output_size()];
                let plaintext = key.private.decrypt(scheme, ciphertext, &mut room, None).map_err(|_| Broken)?;
                Ok(plaintext.to_vec())
            }
            (Self::Oct(key), "A128KW" | "A256KW") => {
                let mut room = vec![0; ciphertext.len()];
                let plaintext = kek(key, algorithm)?.unwrap(ciphertext, &mut room).map_err(|_| Broken)?;
                Ok(plaintext.to_vec())
            }
            (Self::Oct(key), "A128GCM" | "A192GCM" | "A256GCM") => {
                if beside.tag.len() != TAG {
                    return Err(Broken);
                }
                let nonce = Nonce::try_assume_unique_for_key(beside.iv).map_err(|_| Broken)?;
                let mut both = [ciphertext, beside.tag].concat();
                let plaintext = gcm(key, algorithm)?
                    .open_in_place(nonce, Aad::from(beside.aad), &mut both)
                    .map_err(|_| Broken)?;
                Ok(plaintext.to_vec())
            }
            (Self::Oct(_) | Self::Ec { .. }, _) => Err(Broken),
        }
    }
}

fn oaep(algorithm: &str) -> Result<&'static OaepAlgorithm> {
    match algorithm {
        "RSA-OAEP" => Ok(&OAEP_SHA1_MGF1SHA1),
        "RSA-OAEP-256" => Ok(&OAEP_SHA256_MGF1SHA256),
        _ => Err(Broken),
    }
}

/// Whether an algorithm is one of a key of so many bytes.
fn fits(key: &[u8], algorithm: &str) -> bool {
    algorithm.get(1..4).and_then(|bits| bits.parse::<usize>().ok()) == Some(key.len() * 8)
}

fn kek(key: &[u8], algorithm: &str) -> Result<AesKek> {
    let cipher = match (fits(key, algorithm), key.len()) {
        (true, 16) => &AES_128,
        (true, 32) => &AES_256,
        (_, _) => return Err(Broken),
    };
    AesKek::new(cipher, key).map_err(|_| Broken)
}

fn gcm(key: &[u8], algorithm: &str) -> Result<LessSafeKey> {
    let cipher = match (fits(key, algorithm), key.len()) {
        (true, 16) => &AES_128_GCM,
        (true, 24) => &AES_192_GCM,
        (true, 32) => &AES_256_GCM,
        (_, _) => return Err(Broken),
    };
    UnboundKey::new(cipher, key).map(LessSafeKey::new).map_err(|_| Broken)
}

/// A number without zeros before it.
fn unsigned(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|byte| *byte == 0).collect()
}
