//! Nobody outside of admission writes what the record says of action and object.
use claviger::broker::RequestContext;

fn record_another_action(cx: &RequestContext) {
    cx.subject(|subject| drop(subject.clone()));
    cx.note(|fields| fields.cached = Some(true));
}

fn main() {}
