//! A use case acts on the key of its authorization; no other key can be handed to it.
use std::sync::Arc;

use claviger::broker::{Authorized, Broker, op};
use claviger::envelope::{Context, Envelope};
use claviger::keys::KeyEntry;

async fn unwrap(broker: &Broker, authorized: Authorized<op::Unwrap>, other: &Arc<KeyEntry>, envelope: &Envelope, context: &Context) {
    let _ = broker.unwrap(authorized, other, envelope, context).await;
}

fn main() {}
