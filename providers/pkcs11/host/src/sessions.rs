//! The session of one worker, and the handles of keys that it has found.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState};

use crate::messages::{KeyKind, Refused, code};
use crate::refusals::{is_of_handle, is_of_session, of, own};
use crate::token::Module;

/// The most handles that are kept.
const MAX_HANDLES: usize = 1024;
/// How long decryptions use a handle before it is checked again. With SoftHSM a check takes three times as long as a
/// decryption.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Why a call failed.
pub(crate) enum Failure {
    /// An error of the module's.
    Module(Error),
    /// One of [`code`].
    Own(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Module(error)
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Module(error) => of(error),
            Failure::Own(code) => own(code),
        }
    }
}

/// A handle of a key that was found.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    handle: ObjectHandle,
    /// When it led to the key for the last time.
    checked: Instant,
}

/// The handles of keys by kind and `CKA_ID`.
pub(crate) type Handles = HashMap<(KeyKind, Vec<u8>), Found>;

/// A worker's session, opened when it is first needed.
#[derive(Default)]
pub(crate) struct WorkerSession {
    session: Option<Session>,
    handles: Handles,
}

impl WorkerSession {
    /// Makes a call with a session, and once more where the session or a handle turns out to be stale, which has
    /// no effect. After any other error the session is not used again either: an operation may still be active in
    /// it.
    pub(crate) fn call<T>(&mut self, module: &Module, call: impl Fn(&Session, &mut Handles) -> Result<T, Failure>) -> Result<T, Failure> {
        let is_kept = self.session.is_some();
        let result = self.once(module, &call);
        match result {
            Err(Failure::Module(error)) if is_kept && (is_of_session(&error) || is_of_handle(&error)) => self.once(module, &call),
            result => result,
        }
    }

    fn once<T>(&mut self, module: &Module, call: &impl Fn(&Session, &mut Handles) -> Result<T, Failure>) -> Result<T, Failure> {
        let session = match self.session.take() {
            Some(session) => session,
            None => {
                self.handles.clear();
                module.context.open_ro_session(module.slot)?
            }
        };
        let result = call(&session, &mut self.handles);
        if let Ok(_) | Err(Failure::Own(_)) = result {
            self.session = Some(session);
        }
        result
    }
}

fn template(kind: KeyKind, id: &[u8]) -> [Attribute; 4] {
    let (class, key_type) = match kind {
        KeyKind::Aes => (ObjectClass::SECRET_KEY, KeyType::AES),
        KeyKind::RsaPublic => (ObjectClass::PUBLIC_KEY, KeyType::RSA),
        KeyKind::RsaPrivate => (ObjectClass::PRIVATE_KEY, KeyType::RSA),
    };
    [
        Attribute::Class(class),
        Attribute::KeyType(key_type),
        Attribute::Token(true),
        Attribute::Id(id.to_vec()),
    ]
}

/// Whether the token shows this session its private objects.
pub(crate) fn is_logged_in(session: &Session) -> Result<bool, Error> {
    Ok(match session.get_session_info()?.session_state() {
        SessionState::RoUser | SessionState::RwUser => true,
        SessionState::RoPublic | SessionState::RwPublic | SessionState::RwSecurityOfficer => false,
    })
}

/// Checks that the token answers, and shows its private keys. Of a token whose files are away SoftHSM finds no keys, and
/// keeps the sessions and their login.
pub(crate) fn shows_keys(module: &Module, session: &Session) -> Result<(), Failure> {
    if module.context.get_token_info(module.slot).is_err() {
        return Err(Failure::Own(code::TOKEN_GONE));
    }
    match is_logged_in(session)? {
        true => Ok(()),
        // Without a login, a token shows its public keys alone.
        false => Err(Failure::Own(code::LOGGED_OUT)),
    }
}

/// Whether a handle still leads to a key of this kind with this id. Some tokens use the handles of removed objects again,
/// and each has its own error for a handle that leads nowhere.
fn is_still(session: &Session, handle: ObjectHandle, kind: KeyKind, id: &[u8]) -> Result<bool, Error> {
    match has_template(session, handle, kind, id) {
        Err(error) if !is_of_session(&error) => Ok(false),
        is_still => is_still,
    }
}

/// Whether the object of a handle has the attributes of this key.
fn has_template(session: &Session, handle: ObjectHandle, kind: KeyKind, id: &[u8]) -> Result<bool, Error> {
    let wanted = template(kind, id);
    let types = wanted.each_ref().map(Attribute::attribute_type);
    session.get_attributes(handle, &types).map(|attributes| attributes == wanted)
}

/// The handle of a key, which leads to it at this moment.
pub(crate) fn handle(
    module: &Module,
    (session, handles): (&Session, &mut Handles),
    kind: KeyKind,
    id: &[u8],
) -> Result<ObjectHandle, Failure> {
    let name = (kind, id.to_vec());
    if let Some(found) = handles.get_mut(&name) {
        if is_still(session, found.handle, kind, id)? {
            found.checked = Instant::now();
            return Ok(found.handle);
        }
        handles.remove(&name);
    }
    let found = session.find_objects(&template(kind, id))?;
    match found.as_slice() {
        [] => Err(shows_keys(module, session).err().unwrap_or(Failure::Own(code::NO_KEY))),
        [only] => {
            if handles.len() >= MAX_HANDLES {
                handles.clear();
            }
            let (handle, checked) = (*only, Instant::now());
            handles.insert(name, Found { handle, checked });
            Ok(handle)
        }
        [_, _, ..] => Err(Failure::Own(code::SEVERAL_KEYS)),
    }
}

/// Whether a handle leads to another key than this one, or to none. Where its attributes cannot be read, that is no proof:
/// a token that is lost, or permits nothing, reads none either. Then the key is looked for, and another handle is one.
fn leads_elsewhere(
    module: &Module,
    (session, handles): (&Session, &mut Handles),
    kind: KeyKind,
    id: &[u8],
    of_key: ObjectHandle,
) -> Result<bool, Error> {
    match has_template(session, of_key, kind, id) {
        Ok(has) => Ok(!has),
        Err(Error::Pkcs11(RvError::ObjectHandleInvalid | RvError::KeyHandleInvalid, _)) => Ok(true),
        Err(error) if is_of_session(&error) => Err(error),
        Err(_) => {
            handles.remove(&(kind, id.to_vec()));
            Ok(handle(module, (session, handles), kind, id).is_ok_and(|found| found != of_key))
        }
    }
}

/// Decrypts with the handle of a key, which is checked each [`CHECK_EVERY`], and where the decryption fails: with another
/// key it does, since AES-GCM and RSA-OAEP open nothing that another key encrypted.
pub(crate) fn decrypt_with<T>(
    module: &Module,
    (session, handles): (&Session, &mut Handles),
    kind: KeyKind,
    id: &[u8],
    decrypt: impl Fn(ObjectHandle) -> Result<T, Error>,
) -> Result<T, Failure> {
    let found = handles.get(&(kind, id.to_vec()));
    let handle = match found.filter(|found| found.checked.elapsed() < CHECK_EVERY) {
        Some(found) => found.handle,
        None => handle(module, (session, handles), kind, id)?,
    };
    match decrypt(handle) {
        Err(error) if !is_of_session(&error) && leads_elsewhere(module, (session, handles), kind, id, handle)? => {
            // As a token reports it that never uses a handle again.
            Err(Error::Pkcs11(RvError::KeyHandleInvalid, Function::Decrypt).into())
        }
        decrypted => Ok(decrypted?),
    }
}
