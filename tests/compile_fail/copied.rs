//! An authorization is used once: a use case consumes it, and it cannot be copied.
use claviger::broker::{Authorized, op};

fn copy(authorized: &Authorized<op::Unwrap>) -> Authorized<op::Unwrap> {
    authorized.clone()
}

fn main() {}
