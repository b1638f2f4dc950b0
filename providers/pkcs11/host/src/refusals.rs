//! From an error of the module to what the gateway is told.

use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};

use crate::messages::{Refused, code};

/// A refusal of the helper's own.
pub(crate) fn own(code: &str) -> Refused {
    Refused {
        function: String::new(),
        code: code.to_owned(),
        cause: String::new(),
        has_wrong_pin: None,
    }
}

/// The name of a return value in the standard's header files.
fn name(value: RvError) -> String {
    if let RvError::VendorDefined(value) = value {
        return format!("CKR_VENDOR_DEFINED_{value:08X}");
    }
    let mut name = "CKR".to_owned();
    for letter in format!("{value:?}").chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn refused(function: Function, value: RvError) -> Refused {
    Refused {
        function: format!("C_{function:?}"),
        code: name(value),
        cause: String::new(),
        has_wrong_pin: None,
    }
}

/// What an error of a call means.
pub(crate) fn of(error: Error) -> Refused {
    match error {
        Error::Pkcs11(value, function) => refused(function, value),
        Error::LibraryLoading(why) => Refused {
            cause: why.to_string(),
            ..own(code::NO_MODULE)
        },
        Error::MissingSymbol(symbol) => Refused {
            cause: format!("the file has no {symbol}"),
            ..own(code::NO_MODULE)
        },
        Error::NullFunctionPointer | Error::NotSupported => own("CKR_FUNCTION_NOT_SUPPORTED"),
        other @ (Error::TryFromInt(_)
        | Error::TryFromSlice(_)
        | Error::ParseInt(_)
        | Error::Utf8(_)
        | Error::NulError(_)
        | Error::InvalidValue
        | Error::PinNotSet) => Refused {
            cause: other.to_string(),
            ..own("CKR_GENERAL_ERROR")
        },
    }
}

/// Whether the session itself is of no use any more, and the call had no effect.
pub(crate) const fn is_of_session(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(RvError::SessionHandleInvalid | RvError::SessionClosed | RvError::OperationActive, _)
    )
}

/// Whether the handle of a key leads to none any more, and the call had no effect.
pub(crate) const fn is_of_handle(error: &Error) -> bool {
    matches!(error, Error::Pkcs11(RvError::KeyHandleInvalid | RvError::ObjectHandleInvalid, _))
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;
    use cryptoki::error::{Error, RvError};

    use super::of;

    #[test]
    fn a_return_value_has_the_standards_name() {
        for (value, name) in [
            (RvError::PinIncorrect, "CKR_PIN_INCORRECT"),
            (RvError::EncryptedDataInvalid, "CKR_ENCRYPTED_DATA_INVALID"),
            (RvError::GeneralError, "CKR_GENERAL_ERROR"),
            (RvError::UserNotLoggedIn, "CKR_USER_NOT_LOGGED_IN"),
            (RvError::VendorDefined(0x8000_0001), "CKR_VENDOR_DEFINED_80000001"),
        ] {
            let refused = of(Error::Pkcs11(value, Function::Decrypt));
            assert_eq!((refused.function.as_str(), refused.code.as_str()), ("C_Decrypt", name));
        }
    }
}
