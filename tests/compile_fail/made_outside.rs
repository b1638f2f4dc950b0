//! Only admission makes an authorization.
use std::sync::Arc;

use claviger::broker::{Authorized, RequestContext, op};
use claviger::keys::KeyEntry;

fn make(cx: RequestContext, object: Arc<KeyEntry>) -> Authorized<op::Unwrap> {
    Authorized { cx, object }
}

fn main() {}
