//! Key objects that the gateway did not make. This program makes them in a process of its own, since a module reads
//! its configuration from the environment.

use std::process::Command;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use crate::token::{LABEL, PIN, Token};

/// The argument with which this program makes an object.
pub const MAKER: &str = "make-object";

/// Has an object made: an AES key whose attributes `what` names, separated by commas.
pub fn make(token: &Token, id: &str, label: &str, what: &str) {
    make_in(token, LABEL, id, label, what);
}

/// The same, in the token with the label `of`.
pub fn make_in(token: &Token, of: &str, id: &str, label: &str, what: &str) {
    let made = Command::new(std::env::current_exe().unwrap())
        .env(token.module.variable(), token.configuration())
        .arg(MAKER)
        .arg(&token.module.path)
        .args([of, id, label, what])
        .output()
        .unwrap();
    assert!(made.status.success(), "{what}: {}", String::from_utf8_lossy(&made.stderr));
}

/// Gives the token's user another PIN.
pub fn set_pin(token: &Token, pin: &str) {
    make(token, "", pin, "set-pin");
}

/// Makes a token with a user in the first slot that has none.
fn make_token(context: &Pkcs11, label: &str) {
    let slots = context.get_all_slots().unwrap();
    let is_free = |slot: &Slot| !context.get_token_info(*slot).is_ok_and(|info| info.token_initialized());
    let slot = slots.into_iter().find(is_free).unwrap();
    let officer = AuthPin::from("27182818");
    context.init_token(slot, &officer, label).unwrap();
    let session = context.open_rw_session(slot).unwrap();
    session.login(UserType::So, Some(&officer)).unwrap();
    session.init_pin(&AuthPin::from(PIN)).unwrap();
}

/// Makes the object of the arguments behind [`MAKER`].
pub fn make_here(arguments: &[String]) {
    let [module, of, id, label, what] = arguments else {
        panic!("module, label of the token, id, label and what")
    };
    let context = Pkcs11::new(module).unwrap();
    context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    if what == "token" {
        return make_token(&context, label);
    }
    let slots = context.get_slots_with_token().unwrap();
    let slot = slots
        .into_iter()
        .find(|slot| context.get_token_info(*slot).is_ok_and(|info| info.label() == of))
        .unwrap();
    let session = context.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&AuthPin::from(PIN))).unwrap();
    if what == "set-pin" {
        session.set_pin(&AuthPin::from(PIN), &AuthPin::from(label.as_str())).unwrap();
        return;
    }
    let id = Attribute::Id(hex::decode(id).unwrap());
    if what == "destroy" {
        for object in session.find_objects(&[id]).unwrap() {
            session.destroy_object(object).unwrap();
        }
        return;
    }
    if what == "set-id" {
        let new = Attribute::Id(hex::decode(label).unwrap());
        for object in session.find_objects(&[id]).unwrap() {
            session.update_attributes(object, std::slice::from_ref(&new)).unwrap();
        }
        return;
    }
    if let Some((encrypt, decrypt)) = match what.as_str() {
        "forbid" => Some((false, false)),
        "forbid-encrypt" => Some((false, true)),
        "permit" => Some((true, true)),
        _ => None,
    } {
        for object in session.find_objects(&[id]).unwrap() {
            let attributes = [Attribute::Encrypt(encrypt), Attribute::Decrypt(decrypt)];
            session.update_attributes(object, &attributes).unwrap();
        }
        return;
    }
    let label = Attribute::Label(label.clone().into_bytes());
    let has = |word: &str| what.split(',').any(|given| given == word);
    if has("rsa-2048") {
        let public = [
            Attribute::Token(true),
            id.clone(),
            label.clone(),
            Attribute::ModulusBits(2048.into()),
        ];
        let private = [Attribute::Token(true), id, label];
        session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private).unwrap();
        return;
    }
    let mut template = vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(!has("readable")),
        Attribute::Extractable(has("extractable") || has("readable")),
        Attribute::Encrypt(true),
        Attribute::Decrypt(!has("no-decrypt")),
        id,
        label,
    ];
    if has("data") {
        session
            .create_object(&[
                Attribute::Class(ObjectClass::DATA),
                Attribute::Token(true),
                Attribute::Value(vec![1]),
                template.pop().unwrap(),
            ])
            .unwrap();
        return;
    }
    if has("imported") {
        template.extend([
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Value(vec![7; 32]),
        ]);
        session.create_object(&template).unwrap();
        return;
    }
    template.push(Attribute::ValueLen(if has("aes-128") { 16.into() } else { 32.into() }));
    session.generate_key(&Mechanism::AesKeyGen, &template).unwrap();
}
