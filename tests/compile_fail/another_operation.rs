//! A use case takes no authorization of another operation.
use claviger::broker::{Authorized, Broker, op};
use claviger::envelope::{Context, Envelope};

async fn unwrap(broker: &Broker, to_wrap: Authorized<op::Wrap>, envelope: &Envelope, context: &Context) {
    let _ = broker.unwrap(to_wrap, envelope, context).await;
}

fn main() {}
