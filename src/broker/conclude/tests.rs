//! A credential that ends between two steps of an answer, and a change that a provider left unclear.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use claviger_provider::{KeyId, PrincipalId, TokenId};
use claviger_test_support::records;

use crate::access::{Action, Caller, Grants, GrantsAuthorizer, NewToken};
use crate::audit::{Object, StateChange, Verb};
use crate::broker::fixture::{broker, request_info};
use crate::broker::{Broker, Code, Failure, Guarded, RequestContext};
use crate::keys::fixture::{PLAIN, World};
use crate::store::model::{Principal, PrincipalKind, Token, TokenKind};
use crate::store::{Reads, Store};

const NOW: i64 = 1;

/// A broker, and a token that it knows.
struct Scene {
    world: World,
    broker: Broker,
    folder: tempfile::TempDir,
    token: Token,
    text: String,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new().await;
        let (broker, folder) = broker(&world, Arc::new(GrantsAuthorizer));
        let principal = Principal {
            id: PrincipalId::random(),
            tenant: world.tenant,
            name: "app".to_owned(),
            kind: PrincipalKind::ServiceAccount,
            created: NOW,
        };
        world.store.create_principal(&principal, &PLAIN).await.unwrap();
        let drawn = NewToken::draw();
        let token = Token {
            id: TokenId::random(),
            tenant: world.tenant,
            principal: principal.id,
            public_id: drawn.public_id,
            secret_sha256: drawn.secret_sha256,
            grants: Grants::everything().to_kept(),
            kind: TokenKind::Standing,
            parent: None,
            depth: 0,
            lifts: 0,
            created: NOW,
            expires: i64::MAX,
            revoked: None,
        };
        world.store.create_token(&token, &PLAIN).await.unwrap();
        Self {
            text: String::from_utf8(drawn.text.expose().to_vec()).unwrap(),
            world,
            broker,
            folder,
            token,
        }
    }

    async fn request(&self) -> RequestContext {
        let info = request_info(None);
        let caller: Caller = self.broker.authenticator().bearer(&self.text, None, None, NOW).await.unwrap();
        RequestContext::new(caller, Action::Unwrap, info)
    }

    fn revoke(&self) {
        self.broker.authenticator().forget_tokens([self.token.public_id.as_str()]);
    }

    /// Kind, result, code and what is withheld of every record, in the order of the log.
    fn recorded(&self) -> Vec<(String, String, String, Option<u64>)> {
        let told = |record: serde_json::Value| {
            let text = |member: &str| record[member].as_str().unwrap_or_default().to_owned();
            (text("kind"), text("result"), text("code"), record["withholds"].as_u64())
        };
        records(self.folder.path()).into_iter().map(told).collect()
    }
}

type Rendered = Result<&'static str, Code>;

fn render(value: Result<&'static str, &Failure>) -> Rendered {
    value.map_err(|failure| failure.code)
}

const SECRET: &str = "plaintext";

#[tokio::test]
async fn what_was_recorded_is_withheld_from_a_credential_that_ended_before_the_hand_over() {
    let scene = Scene::new().await;
    let outcome = ("outcome".to_owned(), "success".to_owned(), String::new(), None);
    let mut recorded = Vec::new();
    loop {
        let cx = scene.request().await;
        let mut handed_over = |_: &mut dyn Iterator<Item = [u8; 16]>| ();
        let mut concluding = pin!(
            scene
                .broker
                .conclude(&cx, Ok(Guarded::free(SECRET)), &|value, _| render(value), &mut handed_over)
        );
        recorded.push(outcome.clone());
        if let Poll::Ready(answer) = futures::poll!(concluding.as_mut()) {
            // The record was on the disk before this thread looked again.
            assert_eq!(answer.ok().unwrap().into_value(), Ok(SECRET));
            continue;
        }
        // The record is on its way to the disk, so the first look was before it.
        scene.revoke();
        assert_eq!(concluding.await.ok().unwrap().into_value(), Err(Code::Unauthenticated));
        break;
    }
    let withholds = Some(recorded.len() as u64 - 1);
    recorded.push(("withheld".to_owned(), "failed".to_owned(), "unauthenticated".to_owned(), withholds));
    assert_eq!(scene.recorded(), recorded);
}

#[tokio::test]
async fn an_answer_that_was_made_by_a_credential_that_ended_is_recorded_as_refused() {
    let scene = Scene::new().await;
    let cx = scene.request().await;
    scene.revoke();
    let concluded = scene
        .broker
        .conclude(&cx, Ok(Guarded::free(SECRET)), &|value, _| render(value), &mut |_| ())
        .await;
    assert_eq!(concluded.ok().unwrap().into_value(), Err(Code::Unauthenticated));
    let refused = ("outcome".to_owned(), "failed".to_owned(), "unauthenticated".to_owned(), None);
    assert_eq!(scene.recorded(), [refused]);
}

#[tokio::test]
async fn a_failure_is_recorded_as_it_was_and_not_told() {
    let scene = Scene::new().await;
    let cx = scene.request().await;
    scene.revoke();
    let failed: Result<Guarded<&str>, _> = Err(Failure::not_found());
    let concluded = scene.broker.conclude(&cx, failed, &|value, _| render(value), &mut |_| ()).await;
    assert_eq!(concluded.ok().unwrap().into_value(), Err(Code::Unauthenticated));
    let failed = ("outcome".to_owned(), "failed".to_owned(), "not_found".to_owned(), None);
    let withheld = ("withheld".to_owned(), "failed".to_owned(), "unauthenticated".to_owned(), Some(0));
    assert_eq!(scene.recorded(), [failed, withheld]);
}

#[tokio::test]
async fn a_whole_batch_is_withheld_from_a_credential_that_ended() {
    let scene = Scene::new().await;
    let cx = scene.request().await;
    let items = scene
        .broker
        .batch(&cx, vec![true, true, false], async |_, opens| {
            if opens {
                Ok(Guarded::free(SECRET))
            } else {
                Err(Failure::ciphertext_rejected())
            }
        })
        .await
        .ok()
        .unwrap();
    let render = |value: Result<&'static str, &Failure>, _: Option<&crate::audit::Receipt>| render(value);
    let mut hand_over = |_: &mut dyn Iterator<Item = [u8; 16]>| ();
    let concluding = scene
        .broker
        .conclude_batch(items, &render, Ok::<_, Code>, |failure| Err(failure.code), &mut hand_over);
    let mut concluding = pin!(concluding);
    assert!(futures::poll!(concluding.as_mut()).is_pending());
    scene.revoke();
    assert_eq!(concluding.await.ok().unwrap().into_value(), Err(Code::Unauthenticated));
    let recorded = scene.recorded();
    let results = |kind: &str| {
        recorded
            .iter()
            .filter(|record| record.0 == kind)
            .map(|record| record.1.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(results("outcome"), ["success", "success", "failed"]);
    assert_eq!(results("withheld").len(), 3);
    let withheld = recorded
        .iter()
        .filter_map(|record| record.3)
        .collect::<std::collections::BTreeSet<_>>();
    assert_eq!(withheld, [0, 1, 2].into(), "each of them once");
}

#[tokio::test]
async fn a_credential_in_force_gets_its_answer() {
    let scene = Scene::new().await;
    let cx = scene.request().await;
    let concluded = scene
        .broker
        .conclude(&cx, Ok(Guarded::free(SECRET)), &|value, _| render(value), &mut |_| ())
        .await;
    assert_eq!(concluded.ok().unwrap().into_value(), Ok(SECRET));
    assert_eq!(scene.recorded().len(), 1);
    drop(scene.world);
}

/// As after a handler that panicked before it had the store note the rotation.
#[tokio::test]
async fn an_interrupted_change_is_left_to_the_next_start_unless_the_store_has_noted_it() {
    let scene = Scene::new().await;
    for is_noted in [false, true] {
        let cx = scene.request().await;
        let rotate = StateChange::new(Verb::Rotate, Object::Key, &KeyId::random()).at_provider();
        let change = scene.broker.announce(&cx, rotate).await.unwrap();
        cx.op_context().trace().set_unclear();
        if is_noted {
            cx.set_noted();
        }
        let panicked: Result<Guarded<&str>, _> = Err(Failure::internal(&"a handler panicked"));
        let concluded = scene.broker.conclude(&cx, panicked, &|value, _| render(value), &mut |_| ()).await;
        assert_eq!(concluded.ok().unwrap().into_value(), Err(Code::Internal));
        assert_eq!(scene.recorded().last().unwrap().1, "interrupted");
        let position = change.intent.unwrap();
        assert_eq!(scene.world.store.is_applied(position).await.unwrap(), is_noted);
    }
}
