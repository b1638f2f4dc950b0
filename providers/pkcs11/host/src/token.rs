//! The module, and the token in one of its slots.

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::{AuthPin, RawAuthPin};

use crate::messages::{Refused, Sensitive, Token, TokenName, code};
use crate::refusals::{of, own};

/// A module that is initialized, and the slot of the connection's token.
pub(crate) struct Module {
    pub(crate) context: Pkcs11,
    pub(crate) slot: Slot,
}

fn trimmed(text: &str) -> String {
    text.trim_end_matches([' ', '\0']).to_owned()
}

fn is_named(info: &TokenInfo, name: &TokenName) -> bool {
    match name {
        TokenName::Label(label) => trimmed(info.label()) == *label,
        TokenName::Serial(serial) => trimmed(info.serial_number()) == *serial,
    }
}

/// Whether a flag says that the user gave a wrong PIN since the last right one. Those of a token with a policy say nothing.
fn has_wrong_pin(info: &TokenInfo) -> bool {
    info.user_pin_count_low() || info.user_pin_final_try() || info.user_pin_locked()
}

/// Loads a module and finds the token.
pub(crate) fn open(path: &str, name: &TokenName, not_hardened: Vec<String>) -> Result<(Module, Token), Refused> {
    let context = Pkcs11::new(path).map_err(of)?;
    context
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .map_err(of)?;
    let library = context.get_library_info().map_err(of)?;
    let mut found = Vec::new();
    for slot in context.get_slots_with_token().map_err(of)? {
        // A slot whose token cannot be read is another's.
        let Ok(info) = context.get_token_info(slot) else { continue };
        if info.token_initialized() && is_named(&info, name) {
            found.push((slot, info));
        }
    }
    let Some((slot, info)) = found.pop() else {
        return Err(own(code::NO_TOKEN));
    };
    if !found.is_empty() {
        return Err(own(code::SEVERAL_TOKENS));
    }
    let token = Token {
        serial: trimmed(info.serial_number()),
        label: trimmed(info.label()),
        model: format!("{} {}", trimmed(info.manufacturer_id()), trimmed(info.model())),
        library: format!(
            "{} {}, Cryptoki {}",
            trimmed(library.library_description()),
            library.library_version(),
            library.cryptoki_version()
        ),
        is_pin_locked: info.user_pin_locked(),
        has_wrong_pin: has_wrong_pin(&info),
        not_hardened,
    };
    Ok((Module { context, slot }, token))
}

impl Module {
    /// Logs in. The session must be kept: with the last session of a process, its login ends.
    pub(crate) fn log_in(&self, pin: &Sensitive) -> Result<Session, Refused> {
        self.logged_in(pin).map_err(|refused| Refused {
            has_wrong_pin: self.context.get_token_info(self.slot).ok().map(|info| has_wrong_pin(&info)),
            ..refused
        })
    }

    fn logged_in(&self, pin: &Sensitive) -> Result<Session, Refused> {
        let session = self.context.open_ro_session(self.slot).map_err(of)?;
        let logged_in = match std::str::from_utf8(pin.expose()) {
            Ok(text) => session.login(UserType::User, Some(&AuthPin::from(text))),
            Err(_) => session.login_with_raw(UserType::User, &RawAuthPin::new(Box::new(pin.expose().to_vec()))),
        };
        logged_in.map_err(of)?;
        Ok(session)
    }
}
