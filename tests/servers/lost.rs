//! Keys that are lost at Transit: deleted for good, or deleted and made again under the same name, with the same type or
//! another one. Every call with such a key names what exists there.

use std::time::{Duration, Instant};

use claviger_test_support::Answer;
use serde_json::{Value, json};

use crate::Case;
use crate::openbao::{DEV, Server, unique};
use crate::transit_key::{BACKED_UP, PATIENCE, Scene, dated};
use crate::world::CONNECTION;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "lost::a_key_made_again_is_not_taken_for_the_old_one",
            DEV,
            || Box::pin(made_again()),
        ),
        Case::new("lost::an_older_version_is_not_taken_for_the_current_one", DEV, || {
            Box::pin(with_versions())
        }),
        Case::new("lost::the_same_material_with_another_time_is_the_same_key", DEV, || {
            Box::pin(same_material())
        }),
        Case::new("lost::a_version_after_an_older_backup_is_a_new_one", DEV, || {
            Box::pin(older_backup())
        }),
        Case::new("lost::a_rotation_after_an_older_backup_makes_a_new_version", DEV, || {
            Box::pin(rotated_after_an_older_backup())
        }),
        Case::new(
            "lost::a_key_made_again_in_the_same_second_with_fewer_versions_is_noticed",
            DEV,
            || Box::pin(same_second()),
        ),
        Case::new(
            "lost::a_question_stays_until_the_canary_answers_it",
            DEV,
            || Box::pin(in_question()),
        ),
        Case::new("lost::a_check_notices_a_key_made_again", DEV, || Box::pin(checked())),
        Case::new("lost::a_key_made_again_is_not_rotated", DEV, || Box::pin(rotated())),
        Case::new("lost::a_key_of_another_type_is_not_taken_for_the_old_one", DEV, || {
            Box::pin(another_type())
        }),
        Case::new("lost::a_key_of_its_type_after_one_of_another_type_is_not_taken", DEV, || {
            Box::pin(after_another_type())
        }),
        Case::new("lost::later_versions_of_a_key_made_again_are_not_taken", DEV, || {
            Box::pin(later_versions())
        }),
        Case::new("lost::the_old_key_works_once_it_is_restored", DEV, || Box::pin(restored())),
        Case::new("lost::a_key_that_was_deleted_for_good_is_unknown", DEV, || Box::pin(deleted())),
    ]
}

/// A refusal that says that the key is another one.
#[track_caller]
fn is_replaced(answer: Answer) {
    let problem = answer.expect_problem(409, "key_state");
    let (detail, advice) = (problem["detail"].as_str().unwrap(), problem["what_to_do"].as_str().unwrap());
    assert!(detail.contains("was replaced at the provider"), "{problem}");
    assert!(
        advice.contains("from a backup") && advice.contains("claviger keys rotate"),
        "{problem}"
    );
}

/// The rows of a check of one operation: finding and how.
fn rows<'r>(report: &'r Value, operation: &str) -> Vec<(&'r str, &'r str)> {
    let rights = report["rights"].as_array().unwrap().iter();
    rights
        .filter(|right| right["operation"] == operation)
        .map(|right| (right["finding"].as_str().unwrap(), right["how"].as_str().unwrap()))
        .collect()
}

async fn made_again() {
    let scene = Scene::new(1, &[]).await;
    let made = scene.data_key().await.expect_status(200);
    scene.make_again();
    let theirs = scene.data_key().await.expect_status(200);
    // The first unwrap says it, although the server calls the ciphertext wrong.
    is_replaced(scene.unwrap(&made).await);
    assert_eq!(scene.shown().await, [("unknown".to_owned(), json!(["replaced"]))]);
    let key = scene.world.client.get("/v1/keys/orders").await.expect_status(200);
    assert_eq!(key["warnings"], json!(["replaced"]));
    assert!(scene.world.started.output().contains("the provider has another key under the name"));
    is_replaced(scene.unwrap(&made).await);
    for _ in 0..3 {
        is_replaced(scene.data_key().await);
    }
    // What was wrapped before it was noticed is not lost as well.
    let opened = scene.unwrap(&theirs).await.expect_status(200);
    assert_eq!(opened["plaintext"], theirs["plaintext"]);
    // The key does not come back with it, and the refusal says why.
    scene.world.client.delete("/v1/keys/orders").await.expect_status(204);
    let adopt = json!({"name": "orders", "connection": CONNECTION, "provider_key": scene.name});
    is_replaced(scene.world.client.post("/v1/keys", &adopt).await);
}

/// A current version that is older than the primary one is never taken at its word.
async fn with_versions() {
    let scene = Scene::new(3, &[]).await;
    let made = scene.data_key().await.expect_status(200);
    assert_eq!(made["version"], 3);
    scene.make_again();
    is_replaced(scene.data_key().await);
    is_replaced(scene.unwrap(&made).await);
    // Only the primary version of an adoption has a canary.
    let shown: Vec<Value> = scene.shown().await.into_iter().map(|(_, warnings)| warnings).collect();
    assert_eq!(shown, [json!(["unproven"]), json!(["missing"]), json!(["replaced"])]);
    Server::Dev.bao(&["write", "-f", &format!("{}/rotate", scene.path)], "");
    is_replaced(scene.data_key().await);
    let key = scene.world.client.get("/v1/keys/orders").await.expect_status(200);
    assert_eq!(key["primary_version"], 3);
}

async fn checked() {
    let scene = Scene::new(1, &[]).await;
    scene.make_again();
    let report = scene.check().await;
    let canary = rows(&report, "canary");
    assert!(
        canary.len() == 1 && canary[0].0 == "failed" && canary[0].1.contains("another key"),
        "{report}"
    );
    let versions = rows(&report, "key_version");
    assert!(versions.len() == 1 && versions[0].0 == "failed", "{report}");
    assert!(versions[0].1.contains("version 1 of the key `orders` is `replaced`"), "{report}");
    assert_eq!(scene.doubts().await, [Some("replaced".to_owned())]);
    is_replaced(scene.data_key().await);
    let ran = scene.world.command(&["connections", "check", CONNECTION]).output().unwrap();
    assert!(!ran.status.success());
}

/// Nobody has noticed it yet: the rotate does.
async fn rotated() {
    for kind in [None, Some("type=aes128-gcm96"), Some("type=ed25519")] {
        let scene = Scene::new(1, &[]).await;
        match kind {
            None => scene.make_again(),
            Some(kind) => scene.make_another(kind),
        }
        for _ in 0..2 {
            is_replaced(scene.world.client.post("/v1/keys/orders/rotate", &json!({})).await);
            assert_eq!(scene.at_server()["latest_version"], 1, "{kind:?}");
        }
        assert_eq!(scene.doubts().await, [Some("replaced".to_owned())]);
        is_replaced(scene.data_key().await);
    }
}

async fn another_type() {
    for kind in [
        "type=aes128-gcm96",
        "type=chacha20-poly1305",
        "type=ed25519",
        "type=rsa-2048",
        "type=rsa-3072",
        "derived=true",
    ] {
        // A wrap that names another version than the primary one is noticed at once.
        let versions = if kind == "type=aes128-gcm96" { 1 } else { 2 };
        let scene = Scene::new(u32::try_from(versions).unwrap(), &BACKED_UP).await;
        let made = scene.data_key().await.expect_status(200);
        let backup = scene.backup();
        scene.make_another(kind);
        // What it can wrap, until it is noticed, is not lost.
        let answer = scene.data_key().await;
        let theirs = match answer.status {
            200 => Some(answer.expect_status(200)),
            _ => {
                is_replaced(answer);
                None
            }
        };
        for _ in 0..2 {
            is_replaced(scene.unwrap(&made).await);
            is_replaced(scene.data_key().await);
        }
        assert_eq!(theirs.is_some(), versions == 1, "{kind}");
        if let Some(theirs) = &theirs {
            let opened = scene.unwrap(theirs).await.expect_status(200);
            assert_eq!(opened["plaintext"], theirs["plaintext"], "{kind}");
        }
        assert_eq!(scene.doubts().await, vec![Some("replaced".to_owned()); versions], "{kind}");
        assert!(scene.shown().await.iter().all(|(state, _)| state == "unfit"), "{kind}");
        let report = scene.check().await;
        let found = rows(&report, "key_version");
        assert!(
            found.len() == 1 && found[0].0 == "failed" && found[0].1.contains("`unfit`"),
            "{report}"
        );
        assert_eq!(
            scene.world.started.output().matches("of another type at the provider").count(),
            1,
            "{kind}"
        );
        scene.restore(&backup);
        let begin = Instant::now();
        while scene.data_key().await.status != 200 || scene.unwrap(&made).await.status != 200 {
            assert!(begin.elapsed() < PATIENCE, "the restored key does not work: {kind}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(scene.doubts().await, vec![None; versions], "{kind}");
    }
}

async fn later_versions() {
    let scene = Scene::new(1, &[]).await;
    let made = scene.data_key().await.expect_status(200);
    scene.make_again();
    Server::Dev.bao(&["write", "-f", &format!("{}/rotate", scene.path)], "");
    // The wrap names a version that the gateway does not know: its description shows whose it is.
    is_replaced(scene.data_key().await);
    assert_eq!(scene.doubts().await, [Some("replaced".to_owned())]);
    is_replaced(scene.unwrap(&made).await);
}

async fn restored() {
    let scene = Scene::new(2, &BACKED_UP).await;
    let made = scene.data_key().await.expect_status(200);
    let backup = scene.backup();
    scene.make_again();
    is_replaced(scene.unwrap(&made).await);
    scene.restore(&backup);
    let opened = scene.unwrap(&made).await.expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);
    // A wrap has the server asked, once in 10 s.
    let begin = Instant::now();
    while scene.data_key().await.status != 200 {
        assert!(begin.elapsed() < PATIENCE, "the restored key does not wrap");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(scene.doubts().await, [None, None]);
}

/// A backup with other creation times, as an import of the same material has them.
async fn same_material() {
    // Only the primary version of an adoption has a canary.
    let scene = Scene::new(2, &BACKED_UP).await;
    let made = scene.data_key().await.expect_status(200);
    let before = scene.at_server()["keys"]["1"].clone();
    let moved = json!(1_577_934_245);
    scene.restore(&dated(&dated(&scene.backup(), 1, &moved), 2, &moved));
    assert_ne!(scene.at_server()["keys"]["1"], before);
    for _ in 0..2 {
        scene.check().await;
        assert_eq!(scene.doubts().await, [None, None]);
    }
    let versions = scene.world.client.list("/v1/keys/orders/versions").await;
    assert_eq!(versions[0]["created"], "2020-01-02T03:04:05.000000Z");
    let opened = scene.unwrap(&made).await.expect_status(200);
    assert_eq!(opened["plaintext"], made["plaintext"]);
    let rotated = scene
        .world
        .client
        .post("/v1/keys/orders/rotate", &json!({}))
        .await
        .expect_status(200);
    assert_eq!(rotated["primary_version"], 3);
}

/// A key whose owner restored a backup without its third version, and a data key of each version that it had.
async fn without_newest() -> (Scene, [Value; 3]) {
    let scene = Scene::new(1, &BACKED_UP).await;
    let data_key = async || scene.data_key().await.expect_status(200);
    let first = data_key().await;
    scene.rotate().await.expect_status(200);
    let (second, backup) = (data_key().await, scene.backup());
    assert_eq!(scene.rotate().await.expect_status(200)["primary_version"], 3);
    let third = data_key().await;
    scene.restore(&backup);
    (scene, [first, second, third])
}

/// The lost version is replaced by a new one of its name, which has a number of its own.
async fn goes_on_with_the_fourth(scene: &Scene, [first, second, third]: [Value; 3]) {
    let fourth = scene.data_key().await.expect_status(200);
    assert_eq!(fourth["version"], 4);
    let key = scene.world.client.get("/v1/keys/orders").await.expect_status(200);
    assert_eq!(key["primary_version"], 4);
    assert_eq!(scene.doubts().await, [None, None, Some("replaced".to_owned()), None]);
    let versions = scene.world.client.list("/v1/keys/orders/versions").await;
    let names: Vec<&Value> = versions.iter().map(|version| &version["provider_version"]).collect();
    assert_eq!(names, ["1", "2", "3", "3"]);
    is_replaced(scene.unwrap(&third).await);
    for made in [&first, &second, &fourth] {
        let opened = scene.unwrap(made).await.expect_status(200);
        assert_eq!(opened["plaintext"], made["plaintext"]);
    }
}

async fn older_backup() {
    // Another version 3 than the gateway's: of the same second, and of another one.
    for apart in [0, 3600] {
        let (scene, made) = without_newest().await;
        assert_eq!(scene.data_key().await.expect_status(200)["version"], 2);
        // The server has no version 3 now: the ciphertext is right.
        scene.unwrap(&made[2]).await.expect_problem(409, "key_state");
        assert_eq!(scene.doubts().await, [None, None, Some("missing".to_owned())]);
        let created = scene.world.client.list("/v1/keys/orders/versions").await[2]["created"].clone();
        let created = chrono::DateTime::parse_from_rfc3339(created.as_str().unwrap()).unwrap().timestamp();
        Server::Dev.bao(&["write", "-f", &format!("{}/rotate", scene.path)], "");
        scene.restore(&dated(&scene.backup(), 3, &json!(created + apart)));
        goes_on_with_the_fourth(&scene, made).await;
    }
}

/// Nobody has noticed it before the rotation, or it is known already.
async fn rotated_after_an_older_backup() {
    for is_known in [false, true] {
        let (scene, made) = without_newest().await;
        if is_known {
            scene.check().await;
        }
        let rotated = scene.rotate().await.expect_status(200);
        assert_eq!(rotated["primary_version"], 4);
        assert_eq!(scene.at_server()["latest_version"], 3);
        goes_on_with_the_fourth(&scene, made).await;
    }
}

/// A key made again within the same second as the old one, which had more versions.
async fn same_second() {
    let scene = Scene::new(1, &BACKED_UP).await;
    let first = scene.data_key().await.expect_status(200);
    let created = scene.at_server()["keys"]["1"].clone();
    scene.rotate().await.expect_status(200);
    let second = scene.data_key().await.expect_status(200);
    scene.make_another("exportable=true");
    Server::Dev.bao(&["write", &format!("{}/config", scene.path), "allow_plaintext_backup=true"], "");
    scene.restore(&dated(&scene.backup(), 1, &created));
    assert_eq!(scene.at_server()["keys"], json!({"1": created}));
    for _ in 0..2 {
        is_replaced(scene.data_key().await);
        is_replaced(scene.unwrap(&first).await);
        is_replaced(scene.unwrap(&second).await);
        scene.check().await;
        assert_eq!(scene.doubts().await, vec![Some("replaced".to_owned()); 2]);
    }
    is_replaced(scene.rotate().await);
    assert_eq!(scene.at_server()["latest_version"], 1);
}

/// The connection may read the key, and not decrypt with it.
/// A key `orders`, and what lets or forbids the gateway to unwrap with it.
async fn with_policy() -> (Scene, impl Fn(&str)) {
    let name = unique("theirs");
    let of_key = name.clone();
    let policy = move |decrypt: &str| {
        let name = &of_key;
        format!(
            "path \"transit/keys/{name}\" {{ capabilities = [\"read\"] }}\npath \"transit/encrypt/{name}\" {{ capabilities = [\"update\"] }}\n\
             path \"transit/decrypt/{name}\" {{ capabilities = [\"{decrypt}\"] }}\n\
             path \"sys/capabilities-self\" {{ capabilities = [\"update\"] }}\npath \"auth/token/lookup-self\" {{ capabilities = [\"read\"] }}\n"
        )
    };
    let of_policy = unique("question");
    let with_it = format!("-policy={of_policy}");
    let permit = move |decrypt: &str| drop(Server::Dev.bao(&["policy", "write", &of_policy, "-"], &policy(decrypt)));
    permit("update");
    let create = ["token", "create", "-orphan", "-no-default-policy", "-field=token"];
    let token = Server::Dev.bao(&[&create[..], &[with_it.as_str()]].concat(), "");
    (Scene::named(name, 1, &[], token.trim()).await, permit)
}

/// Once it is known that another key was there, silence proves nothing.
async fn after_another_type() {
    let (scene, permit) = with_policy().await;
    scene.make_another("type=rsa-2048");
    scene.check().await;
    assert_eq!(scene.shown().await[0].0, "unfit");
    scene.make_again();
    permit("deny");
    scene.check().await;
    assert_eq!(scene.doubts().await, [Some("replaced".to_owned())]);
    is_replaced(scene.data_key().await);
    permit("update");
    scene.check().await;
    is_replaced(scene.data_key().await);
}

async fn in_question() {
    let (scene, permit) = with_policy().await;
    scene.make_again();
    permit("deny");
    for _ in 0..2 {
        scene.check().await;
        assert_eq!(scene.doubts().await, [Some("unproven".to_owned())]);
    }
    // No version is taken meanwhile.
    Server::Dev.bao(&["write", "-f", &format!("{}/rotate", scene.path)], "");
    let refused = scene.data_key().await.expect_problem(409, "key_state");
    assert!(refused["detail"].as_str().unwrap().contains("nothing proves"), "{refused}");
    assert_eq!(scene.doubts().await.len(), 1);
    permit("update");
    scene.check().await;
    assert_eq!(scene.doubts().await, [Some("replaced".to_owned())]);
}

async fn deleted() {
    let scene = Scene::new(2, &[]).await;
    scene.data_key().await.expect_status(200);
    scene.delete();
    // While the key is young, its server may not know it yet.
    let begin = Instant::now();
    while scene.shown().await != vec![("unknown".to_owned(), json!(["missing"])); 2] {
        scene.data_key().await.expect_problem(409, "key_state");
        scene.check().await;
        assert!(begin.elapsed() < PATIENCE, "nobody notices it");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let logged = scene.world.started.output();
    assert_eq!(logged.matches("does not have a version of a key any more").count(), 1);
    let report = scene.check().await;
    assert!(rows(&report, "canary").iter().all(|(finding, _)| *finding == "failed"), "{report}");
}
