//! Declared capabilities match the behaviour.

use claviger_provider::{ErrorKind, How, KeyId, KeyRequest, KeySpec, Secret};

use super::bench::{Bench, Outcome, context, ensure, refused};

pub(super) async fn what_is_declared_makes_sense(bench: Bench) -> Outcome {
    let can = bench.provider.capabilities();
    ensure(can == bench.provider.capabilities(), || "two declarations differ".into())?;
    let declared = |spec: &KeySpec| can.keys.iter().filter(|keys| keys.spec == *spec).count();
    ensure(KeySpec::ALL.iter().all(|spec| declared(spec) <= 1), || {
        "a specification is declared twice".into()
    })?;
    let keys = bench.can;
    ensure(keys.max_plaintext >= 64, || {
        format!("{} bytes cannot wrap every data key", keys.max_plaintext)
    })?;
    ensure(
        keys.wrap != How::No || (keys.generate_data_key == How::No && keys.rewrap == How::No),
        || "data keys without wrap".into(),
    )
}

pub(super) async fn what_is_not_declared_is_unsupported(bench: Bench) -> Outcome {
    let (provider, can) = (&bench.provider, bench.provider.capabilities());
    let keys = bench.can;
    let (cx, context, dek, kek) = (bench.cx(), context("undeclared"), Secret::random(32), bench.primary().await?);
    let unsupported = [ErrorKind::Unsupported];
    let wrapped = if keys.wrap == How::No {
        refused("wrap_key", provider.wrap_key(&cx, &kek, &dek, &context).await, &unsupported)?;
        None
    } else {
        Some(provider.wrap_key(&cx, &kek, &dek, &context).await?)
    };
    if keys.generate_data_key != How::InsideProvider {
        let result = provider.generate_data_key(&cx, &kek, 32, &context).await;
        refused("generate_data_key", result, &unsupported)?;
    }
    if let Some(wrapped) = &wrapped
        && keys.rewrap != How::InsideProvider
    {
        let result = provider.rewrap_key(&cx, wrapped, &kek, &context).await;
        refused("rewrap_key", result, &unsupported)?;
    }
    if keys.rotation.is_none() {
        refused("rotate", provider.rotate(&cx, &kek).await, &unsupported)?;
    }
    if !can.set_state {
        refused("set_state", provider.set_state(&cx, &kek, false).await, &unsupported)?;
    }
    if !can.schedule_deletion {
        refused("schedule_deletion", provider.schedule_deletion(&cx, &kek, 30).await, &unsupported)?;
    }
    if !can.import {
        refused("import", provider.import(&cx, &kek, &dek).await, &unsupported)?;
    }
    for spec in KeySpec::ALL {
        if can.of(spec).is_none() {
            let request = KeyRequest {
                key_id: KeyId::random(),
                made_as: KeyId::random(),
                repeated: false,
                spec,
                adopt: None,
                taken: false,
            };
            refused(spec.as_str(), provider.create_key(&cx, &request).await, &unsupported)?;
        }
    }
    Ok(())
}

pub(super) async fn a_bad_key_takes_nothing_from_a_probe(bench: Bench) -> Outcome {
    let good = bench.primary().await?;
    let mut absent = good.clone();
    absent.key.id = KeyId::random().to_string();
    let alone = bench.provider.probe(&bench.cx(), std::slice::from_ref(&good)).await?;
    let both = bench.provider.probe(&bench.cx(), &[absent, good]).await?;
    for probe in [&alone, &both] {
        ensure(probe.problem.is_none(), || {
            format!("a problem of the connection: {:?}", probe.problem)
        })?;
        ensure(probe.rights.iter().all(|right| (1..=1024).contains(&right.how.len())), || {
            format!("a right that does not say how it was tried: {:?}", probe.rights)
        })?;
    }
    let same = both.rights.len() >= alone.rights.len() && both.policy.is_some() == alone.policy.is_some();
    ensure(same, || format!("{:?} instead of {:?}", both.rights, alone.rights))
}

pub(super) async fn a_probe_answers(bench: Bench) -> Outcome {
    let own = [bench.primary().await?];
    for keks in [&[], &own[..]] {
        let probe = bench.provider.probe(&bench.cx(), keks).await?;
        ensure((1..=1024).contains(&probe.detail.len()), || {
            format!("a detail of {} bytes", probe.detail.len())
        })?;
    }
    Ok(())
}
