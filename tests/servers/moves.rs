//! One key goes from each of five providers to each of the others, and to another connection of
//! the same one: what was wrapped before a move opens after it, through the old connection.

use claviger_test_support::Answer;
use serde_json::{Value, json};

use crate::Case;
use crate::matrix::{CONTEXT, Five, NEEDS, made};
use crate::world::World;

pub fn cases() -> Vec<Case> {
    vec![Case::new("moves::from_each_provider_to_each_other", NEEDS, || Box::pin(moves()))]
}

/// The order in which a round trip through `ends` things takes each ordered pair once, a thing
/// with itself included: the de Bruijn sequence of order 2.
fn round_trip(ends: usize) -> Vec<usize> {
    let mut order = Vec::with_capacity(ends * ends + 1);
    for first in 0..ends {
        order.push(first);
        for second in first + 1..ends {
            order.extend([first, second]);
        }
    }
    order.push(0);
    order
}

async fn call(world: &World, path: &str, blob: &Value) -> Answer {
    let body = json!({"wrapped": blob["wrapped"], "context": {"purpose": CONTEXT}});
    world.client.post(path, &body).await
}

/// Stops the test unless they open, with this version.
async fn open(world: &World, blobs: &[Value], version: usize, way: &str) {
    for blob in blobs {
        let opened = call(world, "/v1/unwrap", blob).await.expect_status(200);
        assert_eq!(
            (&opened["plaintext"], &opened["version"]),
            (&blob["plaintext"], &json!(version)),
            "{way}"
        );
    }
}

async fn moves() {
    let five = Five::start().await;
    let (world, ends) = (&five.world, five.ends());
    for end in &ends {
        for name in [end.name.to_owned(), format!("{}-too", end.name)] {
            five.connect(end, &name).await;
        }
    }
    let order = round_trip(ends.len());
    let mut here = ends[order[0]].name.to_owned();
    let key = json!({"name": "orders", "connection": here, "spec": ends[order[0]].spec});
    world.client.post("/v1/keys", &key).await.expect_status(201);
    let mut all = vec![made(world, "orders").await];
    for step in order.windows(2) {
        let (from, to) = (&ends[step[0]], &ends[step[1]]);
        let there = if here == to.name {
            format!("{}-too", to.name)
        } else {
            to.name.to_owned()
        };
        let way = format!("from {here} to {there}");
        let number = all.len() + 1;
        let body = json!({"connection": there, "spec": to.spec});
        let key = world.client.post("/v1/keys/orders/rotate", &body).await.expect_status(200);
        assert_eq!(
            (&key["connection"], &key["provider"], &key["spec"], &key["primary_version"]),
            (&json!(there), &json!(to.name), &json!(to.spec), &json!(number)),
            "{way}"
        );
        let old = all.last().unwrap().clone();
        open(world, &old, number - 1, &way).await;
        let new = made(world, "orders").await;
        open(world, &new, number, &way).await;
        let inspected = call(world, "/v1/inspect", &new[0]).await.expect_status(200);
        assert_eq!(inspected["recipients"][0]["provider"], to.name, "{way}");

        let mut rewrapped = Vec::new();
        for blob in &old {
            let mut answer = call(world, "/v1/keys/orders/rewrap", blob).await.expect_status(200);
            assert_eq!((&answer["version"], &answer["changed"]), (&json!(number), &json!(true)), "{way}");
            // A provider rewraps only what one connection reaches.
            assert_eq!(answer["inside_provider"], false, "{way}");
            answer["plaintext"] = blob["plaintext"].clone();
            rewrapped.push(answer);
        }
        let switch = async |verb: &str| {
            let path = format!("/v1/connections/{here}/{verb}");
            world.client.post_empty(&path).await.expect_status(200);
        };
        switch("sever").await;
        for blob in &old {
            call(world, "/v1/unwrap", blob).await.expect_problem(409, "connection_severed");
        }
        open(world, &new, number, &way).await;
        open(world, &rewrapped, number, &way).await;
        switch("restore").await;
        open(world, &old, number - 1, &way).await;
        assert_eq!(from.name, here.trim_end_matches("-too"), "the order goes on where it came to");
        all.push(new);
        here = there;
    }
    assert_eq!(all.len(), 1 + ends.len() * ends.len());
    for (number, blobs) in (1..).zip(&all) {
        open(world, blobs, number, "at the end").await;
    }
    let versions = world.client.list("/v1/keys/orders/versions").await;
    assert_eq!(versions.len(), all.len());
}
