//! The object of an authorization cannot be exchanged.
use std::sync::Arc;

use claviger::broker::{Authorized, op};
use claviger::keys::KeyEntry;

fn exchange(authorized: &mut Authorized<op::Unwrap>, other: Arc<KeyEntry>) {
    authorized.object = other;
}

fn main() {}
