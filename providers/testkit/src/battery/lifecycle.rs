//! Keys and their versions.

use std::collections::BTreeSet;

use claviger_provider::{ErrorKind, KeyDescription, KeyId, KeyRequest, KeyState, Rotation, Secret};
use futures::future::join_all;

use super::bench::{Bench, Failure, Outcome, changed, context, ensure, primary, refused};

fn sound(key: &KeyDescription) -> Outcome {
    ensure((1..=512).contains(&key.id.len()), || format!("an id of {} bytes", key.id.len()))?;
    let named = key.versions.iter().filter(|version| !version.key.version.is_empty());
    let versions: BTreeSet<_> = named.clone().map(|version| (&version.key.id, &version.key.version)).collect();
    ensure(versions.len() == named.count(), || "a version is listed twice".into())?;
    ensure(key.versions.iter().all(|version| version.key.version.len() <= 128), || {
        "a version is too long".into()
    })?;
    ensure(key.primary < key.versions.len(), || "the primary version is not in the list".into())
}

pub(super) async fn a_new_key_is_described(bench: Bench) -> Outcome {
    let request = bench.request().await;
    let key = bench.provider.create_key(&bench.cx(), &request).await?;
    sound(&key)?;
    ensure(key.state == KeyState::Enabled && key.versions.len() == 1, || {
        format!("not one enabled version: {key:?}")
    })?;
    let described = bench.provider.describe(&bench.cx(), &primary(&key, request.key_id)?).await?;
    ensure(described == key, || format!("made as {key:?}, described as {described:?}"))
}

pub(super) async fn the_same_key_is_not_made_twice(bench: Bench) -> Outcome {
    if !bench.creates_keys().await? {
        return Ok(());
    }
    let request = bench.creation();
    bench.provider.create_key(&bench.cx(), &request).await?;
    refused(
        "the second",
        bench.provider.create_key(&bench.cx(), &request).await,
        &[ErrorKind::Conflict],
    )
}

pub(super) async fn a_repeated_creation_finds_what_the_first_one_made(bench: Bench) -> Outcome {
    if !bench.creates_keys().await? {
        return Ok(());
    }
    let request = bench.creation();
    let first = bench.provider.create_key(&bench.cx(), &request).await?;
    let repeated = KeyRequest {
        repeated: true,
        ..request.clone()
    };
    let second = bench.provider.create_key(&bench.cx(), &repeated).await?;
    ensure(second == first, || format!("made as {first:?}, then as {second:?}"))?;
    // Where the first attempt made none, the repetition does.
    let fresh = KeyRequest {
        repeated: true,
        ..bench.creation()
    };
    let made = bench.provider.create_key(&bench.cx(), &fresh).await?;
    sound(&made)?;
    ensure(made.id != first.id, || "another creation found the first key".into())
}

pub(super) async fn looking_for_a_made_key_makes_none(bench: Bench) -> Outcome {
    if !bench.creates_keys().await? {
        return Ok(());
    }
    let request = bench.creation();
    for _ in 0..2 {
        let found = bench.provider.find_made(&bench.cx(), &request).await?;
        ensure(found.is_none(), || format!("found before it was made: {found:?}"))?;
    }
    let made = bench.provider.create_key(&bench.cx(), &request).await?;
    let found = bench.provider.find_made(&bench.cx(), &request).await?;
    ensure(found.as_ref() == Some(&made), || format!("made as {made:?}, found as {found:?}"))
}

pub(super) async fn rotation_keeps_what_was_wrapped_before(bench: Bench) -> Outcome {
    let (cx, context) = (bench.cx(), context("rotation"));
    let old = bench.primary().await?;
    let Some(rotation) = bench.can.rotation else {
        return refused("rotate", bench.provider.rotate(&cx, &old).await, &[ErrorKind::Unsupported]);
    };
    let mut current = old.clone();
    let mut wrapped = Vec::new();
    for round in 1..=3 {
        let dek = Secret::random(32);
        wrapped.push((bench.provider.wrap_key(&cx, &current, &dek, &context).await?, dek));
        let rotated = bench.provider.rotate(&cx, &current).await?;
        sound(&rotated)?;
        let next = primary(&rotated, old.id)?;
        let grown = next.key.id == old.key.id && rotated.versions.len() == round + 1;
        let right = match rotation {
            Rotation::InPlace => grown && next != current,
            Rotation::InPlaceUnnamed => grown && next == current && next.key.version.is_empty(),
            Rotation::NewKey => next.key.id != current.key.id,
        };
        ensure(right, || format!("round {round}: {rotated:?} after {current:?}"))?;
        current = next;
    }
    let dek = Secret::random(32);
    let newest = bench.provider.wrap_key(&cx, &current, &dek, &context).await?;
    ensure(newest.key == current.key, || {
        format!("wrapped under {:?}, not {current:?}", newest.key)
    })?;
    wrapped.push((newest, dek));
    for (at, (wrapped, dek)) in wrapped.iter().enumerate() {
        let opened = bench.provider.unwrap_key(&cx, wrapped, &context).await?;
        ensure(opened == *dek, || format!("version {at}: another key came back"))?;
    }
    let last = wrapped.last().map(|(wrapped, _)| changed(wrapped, |wrapped| wrapped.key = old.key));
    match last.filter(|_| rotation != Rotation::InPlaceUnnamed) {
        Some(forged) => refused(
            "under the first version's name",
            bench.provider.unwrap_key(&cx, &forged, &context).await,
            &[ErrorKind::CiphertextRejected],
        ),
        None => Ok(()),
    }
}

pub(super) async fn a_wrap_that_names_no_version_uses_the_current_one(bench: Bench) -> Outcome {
    let (cx, context, dek) = (bench.cx(), context("current"), Secret::random(32));
    let old = bench.primary().await?;
    if bench.can.rotation.is_none() {
        return refused("rotate", bench.provider.rotate(&cx, &old).await, &[ErrorKind::Unsupported]);
    }
    let rotated = primary(&bench.provider.rotate(&cx, &old).await?, old.id)?;
    let mut any = rotated.clone();
    // Where the gateway chooses, a wrap names the version that it is to use.
    let expected = if bench.can.chooses_version {
        any.key.version.clear();
        &rotated
    } else {
        any.key = old.key.clone();
        &old
    };
    let wrapped = bench.provider.wrap_key(&cx, &any, &dek, &context).await?;
    ensure(wrapped.key == expected.key, || {
        format!("wrapped under {:?}, not {expected:?}", wrapped.key)
    })?;
    let opened = bench.provider.unwrap_key(&cx, &wrapped, &context).await?;
    ensure(opened == dek, || "another key came back".into())
}

pub(super) async fn rotations_at_once_lose_nothing(bench: Bench) -> Outcome {
    let (cx, context) = (bench.cx(), context("rotations"));
    let key = bench.primary().await?;
    let Some(rotation) = bench.can.rotation else {
        return refused("rotate", bench.provider.rotate(&cx, &key).await, &[ErrorKind::Unsupported]);
    };
    let dek = Secret::random(32);
    let wrapped = bench.provider.wrap_key(&cx, &key, &dek, &context).await?;
    let results = join_all((0..8).map(|_| bench.provider.rotate(&cx, &key))).await;
    let (mut done, mut failed) = (Vec::new(), 0);
    for result in results {
        match result {
            Ok(rotated) => done.push(rotated),
            // One of a hundred calls of SoftHSM's C_GenerateKey returns CKR_GENERAL_ERROR where other sessions search for
            // keys meanwhile. A key that was not made is missed by none.
            Err(error) if rotation == Rotation::NewKey && error.kind == ErrorKind::UpstreamUnavailable && failed == 0 => failed += 1,
            // One that is refused for want of room has done nothing, too.
            Err(error) => ensure(matches!(error.kind, ErrorKind::Conflict | ErrorKind::RateLimited), || {
                format!("a rotation: {error}")
            })?,
        }
    }
    ensure(!done.is_empty(), || "none of eight rotations won".into())?;
    match rotation {
        Rotation::InPlace | Rotation::InPlaceUnnamed => {
            let described = bench.provider.describe(&cx, &key).await?;
            sound(&described)?;
            ensure(described.versions.len() == done.len() + 1, || {
                format!("{} rotations made {} versions", done.len(), described.versions.len())
            })?;
        }
        Rotation::NewKey => {
            let ids: BTreeSet<_> = done.iter().map(|rotated| &rotated.id).chain([&key.key.id]).collect();
            ensure(ids.len() == done.len() + 1, || "two rotations made the same key".into())?;
        }
    }
    let opened = bench.provider.unwrap_key(&cx, &wrapped, &context).await?;
    ensure(opened == dek, || "another key came back".into())
}

pub(super) async fn a_disabled_key_does_nothing_until_enabled(bench: Bench) -> Outcome {
    let (cx, context, dek) = (bench.cx(), context("disabled"), Secret::random(32));
    let (key, other) = (bench.primary().await?, bench.primary().await?);
    if !bench.provider.capabilities().set_state {
        let result = bench.provider.set_state(&cx, &key, false).await;
        return refused("set_state", result, &[ErrorKind::Unsupported]);
    }
    let wrapped = bench.provider.wrap_key(&cx, &key, &dek, &context).await?;
    let disabled = [ErrorKind::KeyState];
    for round in ["first", "second"] {
        // Repeating it changes nothing.
        bench.provider.set_state(&cx, &key, false).await?;
        bench.provider.set_state(&cx, &key, false).await?;
        refused(round, bench.provider.wrap_key(&cx, &key, &dek, &context).await, &disabled)?;
        refused(round, bench.provider.unwrap_key(&cx, &wrapped, &context).await, &disabled)?;
        if bench.can.rotation.is_some() {
            refused(round, bench.provider.rotate(&cx, &key).await, &disabled)?;
        }
        let state = bench.provider.describe(&cx, &key).await?.state;
        ensure(state == KeyState::Disabled, || format!("described as {state:?}"))?;
        bench.provider.wrap_key(&cx, &other, &dek, &context).await?;

        bench.provider.set_state(&cx, &key, true).await?;
        bench.provider.set_state(&cx, &key, true).await?;
        let state = bench.provider.describe(&cx, &key).await?.state;
        ensure(state == KeyState::Enabled, || format!("described as {state:?}"))?;
        let opened = bench.provider.unwrap_key(&cx, &wrapped, &context).await?;
        ensure(opened == dek, || "another key came back".into())?;
    }
    Ok(())
}

pub(super) async fn a_missing_key_is_not_found(bench: Bench) -> Outcome {
    let (cx, context, dek) = (bench.cx(), context("missing"), Secret::random(32));
    let key = bench.primary().await?;
    let wrapped = bench.provider.wrap_key(&cx, &key, &dek, &context).await?;
    let missing = [ErrorKind::KeyNotFound];
    for id in [KeyId::random().to_string(), "no/such/key".into()] {
        let mut absent = key.clone();
        absent.key.id = id;
        let forged = changed(&wrapped, |wrapped| wrapped.key = absent.key.clone());
        refused("wrap_key", bench.provider.wrap_key(&cx, &absent, &dek, &context).await, &missing)?;
        refused("unwrap_key", bench.provider.unwrap_key(&cx, &forged, &context).await, &missing)?;
        refused("describe", bench.provider.describe(&cx, &absent).await, &missing)?;
        if bench.can.rotation.is_some() {
            refused("rotate", bench.provider.rotate(&cx, &absent).await, &missing)?;
        }
        if bench.provider.capabilities().set_state {
            refused("set_state", bench.provider.set_state(&cx, &absent, false).await, &missing)?;
        }
    }
    Ok(())
}

pub(super) async fn a_missing_version_is_not_found(bench: Bench) -> Outcome {
    let (cx, context) = (bench.cx(), context("versions"));
    let key = bench.primary().await?;
    let dek = Secret::random(32);
    let wrapped = bench.provider.wrap_key(&cx, &key, &dek, &context).await?;
    if wrapped.key.version.is_empty() {
        // The provider names none and finds the version by itself.
        let opened = bench.provider.unwrap_key(&cx, &wrapped, &context).await?;
        return ensure(opened == dek, || "another key came back".into());
    }
    for version in ["7", "0", "99999999999999999999", "one"] {
        let forged = changed(&wrapped, |wrapped| wrapped.key.version = version.into());
        let result = bench.provider.unwrap_key(&cx, &forged, &context).await;
        refused(version, result, &[ErrorKind::KeyNotFound])?;
    }
    Ok(())
}

pub(super) async fn a_key_to_be_deleted_does_nothing(bench: Bench) -> Outcome {
    let (cx, context, dek) = (bench.cx(), context("deletion"), Secret::random(32));
    let key = bench.primary().await?;
    let wrapped = bench.provider.wrap_key(&cx, &key, &dek, &context).await?;
    let result = bench.provider.schedule_deletion(&cx, &key, 30).await;
    if !bench.provider.capabilities().schedule_deletion {
        return refused("schedule_deletion", result, &[ErrorKind::Unsupported]);
    }
    result?;
    let state = bench.provider.describe(&cx, &key).await?.state;
    ensure(state == KeyState::PendingDeletion, || format!("described as {state:?}"))?;
    refused(
        "unwrap_key",
        bench.provider.unwrap_key(&cx, &wrapped, &context).await,
        &[ErrorKind::KeyState],
    )
}

pub(super) async fn imported_material_wraps(bench: Bench) -> Outcome {
    let (cx, context, dek) = (bench.cx(), context("import"), Secret::random(32));
    let key = bench.primary().await?;
    let result = bench.provider.import(&cx, &key, &Secret::random(32)).await;
    if !bench.provider.capabilities().import {
        return refused("import", result, &[ErrorKind::Unsupported]);
    }
    let imported = primary(&result?, key.id)?;
    let wrapped = bench.provider.wrap_key(&cx, &imported, &dek, &context).await?;
    let opened = bench.provider.unwrap_key(&cx, &wrapped, &context).await?;
    ensure(opened == dek, || "another key came back".into())?;
    let short = bench.provider.import(&cx, &key, &Secret::random(31)).await;
    refused("31 bytes", short, &[ErrorKind::InvalidInput]).map_err(|Failure(why)| Failure(format!("import: {why}")))
}
