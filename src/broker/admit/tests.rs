//! Admission with another authorizer than the one that the gateway starts with.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

mod limited;

use std::borrow::Cow;
use std::sync::Arc;

use claviger_provider::{KeyId, ProviderKind};

use super::{KeyNamed, Operation, PairNamed, op};
use crate::access::{AccessRequest, Action, Authorizer, Caller, Deciding, Decision, Grants, KeySet, NewGrant, PolicyRef, Resource};
use crate::broker::fixture::{broker, request_info};
use crate::broker::{Code, RequestContext};
use crate::keys::fixture::{PLAIN, World, connection, new_key};
use crate::store::Store;
use crate::store::model::Connection;

const POLICY: PolicyRef = PolicyRef {
    id: Cow::Borrowed("test"),
    version: 7,
};

/// Denies every request without this justification, and one key whatever is said. It decides
/// later, as one that has to ask somebody.
struct ByJustification {
    wanted: &'static str,
    forbidden: Option<KeyId>,
}

impl Authorizer for ByJustification {
    fn could_allow(&self, _: &Caller, _: Action) -> bool {
        true
    }

    fn keys<'a>(&self, _: &'a Caller, _: Action) -> &'a KeySet {
        &KeySet::All
    }

    fn decide<'a>(&'a self, request: AccessRequest<'a>) -> Deciding<'a> {
        Deciding::Later(Box::pin(async move {
            tokio::task::yield_now().await;
            let forbidden = matches!(request.resource, Resource::Key(Some(key)) if Some(key.id) == self.forbidden);
            if request.justification == Some(self.wanted) && !forbidden {
                Decision::Allow(POLICY)
            } else {
                Decision::Deny
            }
        }))
    }

    fn may_issue(&self, _: &Caller, _: NewGrant<'_>) -> bool {
        false
    }

    fn may_end(&self, _: &Caller, _: &Grants) -> bool {
        false
    }
}

fn request<O: Operation>(world: &World, justification: Option<&str>) -> RequestContext {
    let info = request_info(justification);
    RequestContext::new(Caller::configuration(world.tenant), O::ACTION, info)
}

/// Of keys in every custody: the owner of an external key may demand a reason for each call.
#[tokio::test]
async fn an_authorizer_can_decide_by_the_justification() {
    let world = World::new().await;
    let authorizer = ByJustification {
        wanted: "ticket 4711",
        forbidden: None,
    };
    let (broker, _folder) = broker(&world, Arc::new(authorizer));
    for provider in [ProviderKind::Vault, ProviderKind::Xks, ProviderKind::Kmip, ProviderKind::Pkcs11] {
        let name = provider.as_str();
        let row = Connection {
            provider,
            ..connection(world.tenant, name)
        };
        world.store.create_connection(&row, Vec::new(), &PLAIN).await.unwrap();
        let key = new_key(world.store.as_ref(), &row, name).await;
        assert_eq!(key.primary.custody.is_external(), provider != ProviderKind::Vault);
        for said in [None, Some("because")] {
            let cx = request::<op::Unwrap>(&world, said);
            let denied = broker.admit::<op::Unwrap>(&cx, KeyNamed::Name(name)).await.err().unwrap();
            assert_eq!(denied.code, Code::PermissionDenied, "{name}");
            let subject = cx.noted().subject;
            // Whoever reads the record learns which key was denied, and that no policy allowed it.
            assert_eq!((subject.action, subject.key, subject.policy), (Action::Unwrap, Some(key.id), None));
        }
        let cx = request::<op::Unwrap>(&world, Some("ticket 4711"));
        let authorized = broker.admit::<op::Unwrap>(&cx, KeyNamed::Name(name)).await.ok().unwrap();
        assert_eq!(authorized.object().id(), key.id);
        let subject = cx.noted().subject;
        assert_eq!(
            (subject.action, subject.key, subject.connection, subject.provider, subject.policy),
            (Action::Unwrap, Some(key.id), Some(row.id), Some(provider), Some(POLICY))
        );
        let again = broker.admit::<op::Wrap>(&cx, KeyNamed::Name(name)).await.err().unwrap();
        assert_eq!(again.code, Code::Internal, "one operation has one object");
    }
}

#[tokio::test]
async fn of_a_pair_the_record_names_the_key_that_was_denied() {
    let world = World::new().await;
    let (source, target) = (world.key("orders").await, world.key("sales").await);
    let pair = PairNamed {
        source: "orders",
        target: "sales",
    };
    for (forbidden, action) in [(source.id, Action::RewrapFrom), (target.id, Action::RewrapTo)] {
        let authorizer = ByJustification {
            wanted: "move",
            forbidden: Some(forbidden),
        };
        let (broker, _folder) = broker(&world, Arc::new(authorizer));
        let cx = request::<op::RewrapToOther>(&world, Some("move"));
        assert!(broker.admit::<op::RewrapToOther>(&cx, pair).await.is_err());
        let subject = cx.noted().subject;
        assert_eq!((subject.action, subject.key), (action, Some(forbidden)));
    }
    let authorizer = ByJustification {
        wanted: "move",
        forbidden: None,
    };
    let (broker, _folder) = broker(&world, Arc::new(authorizer));
    let cx = request::<op::RewrapToOther>(&world, Some("move"));
    let authorized = broker.admit::<op::RewrapToOther>(&cx, pair).await.ok().unwrap();
    assert_eq!(
        (authorized.object().source.id(), authorized.object().target.id()),
        (source.id, target.id)
    );
    let subject = cx.noted().subject;
    assert_eq!((subject.action, subject.key), (Action::RewrapFrom, Some(source.id)));
}
