//! Key material and cryptography: AES-256-GCM for symmetric keys, RSA-OAEP for asymmetric ones,
//! and the import of wrapped material.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rand::fill;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA512_MGF1SHA512, OaepAlgorithm, OaepPrivateDecryptingKey,
    PrivateDecryptingKey,
};

use crate::json::{Algorithm, ImportMethod};

/// The first byte of a ciphertext. The format is this fake's own.
const MARK: u8 = 0x0a;
/// The length of the header: mark, key tag, version number.
const HEAD: usize = 1 + 16 + 4;

/// The key material of a version.
pub(crate) enum Material {
    Symmetric([u8; 32]),
    Private(Rsa),
    /// Signing and MAC keys, which this fake does not use.
    None,
}

/// A parsed RSA key. Parsing costs more than decrypting, so it happens once.
pub(crate) struct Rsa {
    key: OaepPrivateDecryptingKey,
    /// The public key as PEM.
    pub(crate) public_pem: String,
}

impl Rsa {
    fn new(key: PrivateDecryptingKey) -> Result<Self, CryptoError> {
        let der: PublicKeyX509Der<'_> = key.public_key().as_der().map_err(|_| CryptoError)?;
        let block = pem::Pem::new("PUBLIC KEY", der.as_ref());
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        Ok(Self {
            key: OaepPrivateDecryptingKey::new(key).map_err(|_| CryptoError)?,
            public_pem: pem::encode_config(&block, config),
        })
    }

    /// Decrypts an RSA-OAEP ciphertext.
    pub(crate) fn decrypt(&self, how: &'static OaepAlgorithm, ciphertext: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let mut buffer = vec![0; self.key.min_output_size()];
        let opened = self.key.decrypt(how, ciphertext, &mut buffer, None).map_err(|_| CryptoError)?;
        Ok(opened.to_vec())
    }
}

/// A cryptographic operation failed. It carries no reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CryptoError;

/// The size and OAEP variant of an RSA decryption algorithm; `None` for other algorithms.
pub(crate) fn oaep(algorithm: Algorithm) -> Option<(KeySize, &'static OaepAlgorithm)> {
    match algorithm {
        Algorithm::Oaep2048Sha256 => Some((KeySize::Rsa2048, &OAEP_SHA256_MGF1SHA256)),
        Algorithm::Oaep3072Sha256 => Some((KeySize::Rsa3072, &OAEP_SHA256_MGF1SHA256)),
        Algorithm::Oaep4096Sha256 => Some((KeySize::Rsa4096, &OAEP_SHA256_MGF1SHA256)),
        Algorithm::Oaep4096Sha512 => Some((KeySize::Rsa4096, &OAEP_SHA512_MGF1SHA512)),
        Algorithm::Oaep2048Sha1 => Some((KeySize::Rsa2048, &OAEP_SHA1_MGF1SHA1)),
        Algorithm::Oaep3072Sha1 => Some((KeySize::Rsa3072, &OAEP_SHA1_MGF1SHA1)),
        Algorithm::Oaep4096Sha1 => Some((KeySize::Rsa4096, &OAEP_SHA1_MGF1SHA1)),
        Algorithm::Symmetric | Algorithm::ExternalSymmetric | Algorithm::EcSignP256 | Algorithm::HmacSha256 => None,
    }
}

/// Generates key material. An RSA key takes about a second.
pub(crate) fn generate(algorithm: Algorithm) -> Result<Material, CryptoError> {
    match (algorithm, oaep(algorithm)) {
        (_, Some((size, _))) => {
            let key = PrivateDecryptingKey::generate(size).map_err(|_| CryptoError)?;
            Rsa::new(key).map(Material::Private)
        }
        (Algorithm::Symmetric | Algorithm::ExternalSymmetric, None) => Ok(Material::Symmetric(random()?)),
        (_, None) => Ok(Material::None),
    }
}

/// `N` random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], CryptoError> {
    let mut bytes = [0; N];
    fill(&mut bytes).map_err(|_| CryptoError)?;
    Ok(bytes)
}

/// The tag of a key's name, by which a ciphertext names its key.
fn tag(key: &str) -> [u8; 16] {
    let mut tag = [0; 16];
    tag.copy_from_slice(&digest(&SHA256, key.as_bytes()).as_ref()[..16]);
    tag
}

fn gcm(key: &[u8; 32]) -> Result<LessSafeKey, CryptoError> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| CryptoError)
}

/// Encrypts with version `version` of the key named `key`.
pub(crate) fn seal(key: &str, version: u32, material: &[u8; 32], plaintext: &[u8], aad: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let mut out = vec![MARK];
    out.extend(tag(key));
    out.extend(version.to_be_bytes());
    let nonce: [u8; NONCE_LEN] = random()?;
    let bound = [out.as_slice(), aad].concat();
    let mut text = plaintext.to_vec();
    gcm(material)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut text)
        .map_err(|_| CryptoError)?;
    out.extend(nonce);
    out.extend(text);
    Ok(out)
}

/// The version number in a ciphertext; `None` if another key made it.
pub(crate) fn version_of(key: &str, ciphertext: &[u8]) -> Option<u32> {
    let (head, _) = ciphertext.split_at_checked(HEAD)?;
    let (front, number) = head.split_at_checked(HEAD - 4)?;
    let right = front.first() == Some(&MARK) && front.get(1..) == Some(tag(key).as_slice());
    right.then(|| number.try_into().ok().map(u32::from_be_bytes)).flatten()
}

/// Decrypts the output of [`seal`].
pub(crate) fn open(material: &[u8; 32], ciphertext: &[u8], aad: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let (head, rest) = ciphertext.split_at_checked(HEAD).ok_or(CryptoError)?;
    let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(CryptoError)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CryptoError)?;
    let bound = [head, aad].concat();
    let mut text = text.to_vec();
    let opened = gcm(material)?
        .open_in_place(nonce, Aad::from(bound), &mut text)
        .map_err(|_| CryptoError)?;
    Ok(opened.to_vec())
}

/// Generates the wrapping key of an import job.
pub(crate) fn import_key(method: ImportMethod) -> Result<Rsa, CryptoError> {
    let algorithm = match method {
        ImportMethod::Oaep3072Sha256Aes256 | ImportMethod::Oaep3072Sha256 => Algorithm::Oaep3072Sha256,
        ImportMethod::Oaep4096Sha256Aes256 | ImportMethod::Oaep4096Sha256 => Algorithm::Oaep4096Sha256,
    };
    match generate(algorithm)? {
        Material::Private(rsa) => Ok(rsa),
        Material::Symmetric(_) | Material::None => Err(CryptoError),
    }
}

/// Unwraps imported material: 32 bytes for a symmetric key, PKCS#8 of the right size for RSA.
pub(crate) fn import(job: &Rsa, method: ImportMethod, wrapped: &[u8], algorithm: Algorithm) -> Result<Material, CryptoError> {
    let plaintext = match method {
        ImportMethod::Oaep3072Sha256 | ImportMethod::Oaep4096Sha256 => job.decrypt(&OAEP_SHA256_MGF1SHA256, wrapped)?,
        ImportMethod::Oaep3072Sha256Aes256 | ImportMethod::Oaep4096Sha256Aes256 => {
            // The ephemeral AES key under RSA, then the material under it (RFC 5649).
            let modulus = job.key.key_size_bytes();
            let (ephemeral, rest) = wrapped.split_at_checked(modulus).ok_or(CryptoError)?;
            let ephemeral = job.decrypt(&OAEP_SHA256_MGF1SHA256, ephemeral)?;
            let kek = AesKek::new(&AES_256, &ephemeral).map_err(|_| CryptoError)?;
            let mut buffer = vec![0; rest.len()];
            kek.unwrap_with_padding(rest, &mut buffer).map_err(|_| CryptoError)?.to_vec()
        }
    };
    match (algorithm, oaep(algorithm)) {
        (_, Some((size, _))) => {
            let key = PrivateDecryptingKey::from_pkcs8(&plaintext).map_err(|_| CryptoError)?;
            let right = key.key_size_bits() == size.len() * 8;
            if right {
                Rsa::new(key).map(Material::Private)
            } else {
                Err(CryptoError)
            }
        }
        (Algorithm::Symmetric, None) => plaintext.try_into().map(Material::Symmetric).map_err(|_| CryptoError),
        (_, None) => Err(CryptoError),
    }
}
