//! The operations with keys.

use cryptoki::error::Error;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism as Cryptoki, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use zeroize::Zeroizing;

use crate::messages::{KeyKind, KeyObject, Mechanism, NewKey, OaepHash, Output, Sensitive, code};
use crate::sessions::{Failure, WorkerSession, decrypt_with, handle, is_logged_in, shows_keys};
use crate::token::Module;

/// The most objects with one `CKA_ID` that are described.
const MAX_OBJECTS: usize = 16;
/// The bits of a tag of AES-GCM.
const TAG_BITS: u64 = 128;
/// The public exponent of new RSA keys, 65537.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// Calls `with` with the mechanism, whose initialization vector the module may write to.
fn with_mechanism<T>(mechanism: &Mechanism, with: impl FnOnce(&Cryptoki<'_>) -> Result<T, Error>) -> Result<(T, Vec<u8>), Error> {
    match mechanism {
        Mechanism::Gcm { iv, aad } => {
            let mut iv = iv.to_vec();
            let result = with(&Cryptoki::AesGcm(GcmParams::new(&mut iv, aad, TAG_BITS.into())?))?;
            Ok((result, iv))
        }
        Mechanism::Oaep(hash) => {
            let (hash, mask) = match hash {
                OaepHash::Sha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
                OaepHash::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
            };
            let params = PkcsOaepParams::new(hash, mask, PkcsOaepSource::empty());
            Ok((with(&Cryptoki::RsaPkcsOaep(params))?, Vec::new()))
        }
    }
}

pub(crate) fn encrypt(
    worker: &mut WorkerSession,
    module: &Module,
    (kind, id): (KeyKind, &[u8]),
    mechanism: &Mechanism,
    plaintext: &Sensitive,
) -> Result<Output, Failure> {
    let (output, iv) = worker.call(module, |session, handles| {
        let key = handle(module, (session, handles), kind, id)?;
        let encrypt = |mechanism: &Cryptoki<'_>| session.encrypt(mechanism, key, plaintext.expose());
        Ok(with_mechanism(mechanism, encrypt)?)
    })?;
    Ok(Output::Encrypted {
        iv: iv.into(),
        output: output.into(),
    })
}

pub(crate) fn decrypt(
    worker: &mut WorkerSession,
    module: &Module,
    (kind, id): (KeyKind, &[u8]),
    mechanism: &Mechanism,
    ciphertext: &[u8],
) -> Result<Output, Failure> {
    let (plaintext, _) = worker.call(module, |session, handles| {
        decrypt_with(module, (session, handles), kind, id, |key| {
            let decrypt = |mechanism: &Cryptoki<'_>| session.decrypt(mechanism, key, ciphertext).map(Zeroizing::new);
            with_mechanism(mechanism, decrypt)
        })
    })?;
    Ok(Output::Decrypted(Sensitive::new(plaintext)))
}

/// The objects with this id, of any class.
fn objects(session: &Session, id: &[u8]) -> Result<Vec<ObjectHandle>, Error> {
    let template = [Attribute::Token(true), Attribute::Id(id.to_vec())];
    session.iter_objects(&template)?.take(MAX_OBJECTS).collect()
}

/// Describes an object; `None` for one that is no key, or one of another type.
fn described(session: &Session, object: ObjectHandle) -> Result<Option<KeyObject>, Error> {
    let kind = match session.get_attributes(object, &[AttributeType::Class, AttributeType::KeyType]) {
        // A type that only the token knows.
        Err(Error::NotSupported | Error::InvalidValue) => return Ok(None),
        attributes => match attributes?.as_slice() {
            [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES)] => KeyKind::Aes,
            [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::KeyType(KeyType::RSA)] => KeyKind::RsaPublic,
            [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::KeyType(KeyType::RSA)] => KeyKind::RsaPrivate,
            _ => return Ok(None),
        },
    };
    let length = match kind {
        KeyKind::Aes => AttributeType::ValueLen,
        KeyKind::RsaPublic | KeyKind::RsaPrivate => AttributeType::Modulus,
    };
    let wanted = [
        length,
        AttributeType::Label,
        AttributeType::Encrypt,
        AttributeType::Decrypt,
        AttributeType::Sensitive,
        AttributeType::Extractable,
        AttributeType::AlwaysAuthenticate,
    ];
    let mut key = KeyObject {
        kind,
        bits: 0,
        label: String::new(),
        encrypt: None,
        decrypt: None,
        sensitive: None,
        extractable: None,
        always_authenticate: None,
    };
    for attribute in session.get_attributes(object, &wanted)? {
        match attribute {
            Attribute::ValueLen(bytes) => key.bits = u32::try_from(usize::from(bytes) * 8).unwrap_or(0),
            Attribute::Modulus(modulus) => {
                let significant = modulus.iter().skip_while(|byte| **byte == 0).count();
                key.bits = u32::try_from(significant * 8).unwrap_or(0);
            }
            Attribute::Label(label) => key.label = String::from_utf8_lossy(&label).chars().take(256).collect(),
            Attribute::Encrypt(is) => key.encrypt = Some(is),
            Attribute::Decrypt(is) => key.decrypt = Some(is),
            Attribute::Sensitive(is) => key.sensitive = Some(is),
            Attribute::Extractable(is) => key.extractable = Some(is),
            Attribute::AlwaysAuthenticate(is) => key.always_authenticate = Some(is),
            _ => {}
        }
    }
    Ok(Some(key))
}

/// Describes all keys with this id.
pub(crate) fn find(worker: &mut WorkerSession, module: &Module, id: &[u8]) -> Result<Output, Failure> {
    let keys = worker.call(module, |session, _| {
        shows_keys(module, session)?;
        let described = objects(session, id)?.into_iter().map(|object| described(session, object));
        let keys: Result<Vec<_>, Error> = described.filter_map(Result::transpose).collect();
        Ok(keys?)
    })?;
    Ok(Output::Keys(keys))
}

/// Generates a key that never leaves the token, and serves for nothing but encryption.
pub(crate) fn generate(module: &Module, id: &[u8], label: &str, key: NewKey) -> Result<Output, Failure> {
    let session = module.context.open_rw_session(module.slot)?;
    if !is_logged_in(&session)? {
        return Err(Failure::Own(code::LOGGED_OUT));
    }
    if !objects(&session, id)?.is_empty() {
        return Err(Failure::Own(code::KEY_EXISTS));
    }
    let named = [
        Attribute::Token(true),
        Attribute::Id(id.to_vec()),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    let secret = [
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Decrypt(true),
        Attribute::Sign(false),
        Attribute::Unwrap(false),
    ];
    match key {
        NewKey::Aes256 => {
            let own = [
                Attribute::ValueLen(32.into()),
                Attribute::Encrypt(true),
                Attribute::Verify(false),
                Attribute::Wrap(false),
            ];
            let template: Vec<Attribute> = named.into_iter().chain(secret).chain(own).collect();
            session.generate_key(&Cryptoki::AesKeyGen, &template)?;
        }
        NewKey::Rsa(bits) => {
            let own = [
                Attribute::ModulusBits(u64::from(bits).into()),
                Attribute::PublicExponent(EXPONENT.to_vec()),
                Attribute::Encrypt(true),
                Attribute::Verify(false),
                Attribute::Wrap(false),
            ];
            let public: Vec<Attribute> = named.iter().cloned().chain(own).collect();
            let private: Vec<Attribute> = named.into_iter().chain(secret).collect();
            session.generate_key_pair(&Cryptoki::RsaPkcsKeyPairGen, &public, &private)?;
        }
    }
    Ok(Output::Done)
}
