//! What capabilities say is what happens.

use claviger_provider::{ErrorKind, How, KeyId, KeyRequest, KeySpec, Secret};

use super::{Bench, Outcome, context, ensure, refused};

pub(super) async fn what_is_declared_makes_sense(bench: Bench) -> Outcome {
    let can = bench.provider.capabilities();
    ensure(can == bench.provider.capabilities(), || "two declarations differ".into())?;
    ensure(!can.specs.is_empty(), || "no key specification".into())?;
    ensure(can.max_plaintext >= 64, || {
        format!("{} bytes cannot wrap every data key", can.max_plaintext)
    })?;
    ensure(
        can.wrap != How::No || (can.generate_data_key == How::No && can.rewrap == How::No),
        || "data keys without wrap".into(),
    )
}

pub(super) async fn what_is_not_declared_is_unsupported(bench: Bench) -> Outcome {
    let (provider, can) = (&bench.provider, bench.provider.capabilities());
    let (cx, context, dek, key) = (bench.cx(), context("undeclared"), Secret::random(32), bench.primary().await?);
    let unsupported = [ErrorKind::Unsupported];
    let wrapped = if can.wrap == How::No {
        refused("wrap_key", provider.wrap_key(&cx, &key, &dek, &context).await, &unsupported)?;
        None
    } else {
        Some(provider.wrap_key(&cx, &key, &dek, &context).await?)
    };
    if can.generate_data_key != How::InsideProvider {
        let result = provider.generate_data_key(&cx, &key, 32, &context).await;
        refused("generate_data_key", result, &unsupported)?;
    }
    if let Some(wrapped) = &wrapped
        && can.rewrap != How::InsideProvider
    {
        let result = provider.rewrap_key(&cx, wrapped, &key, &context).await;
        refused("rewrap_key", result, &unsupported)?;
    }
    if can.rotation.is_none() {
        refused("rotate", provider.rotate(&cx, &key).await, &unsupported)?;
    }
    if !can.set_state {
        refused("set_state", provider.set_state(&cx, &key, false).await, &unsupported)?;
    }
    if !can.schedule_deletion {
        refused("schedule_deletion", provider.schedule_deletion(&cx, &key, 30).await, &unsupported)?;
    }
    if !can.import {
        refused("import", provider.import(&cx, &key, &dek).await, &unsupported)?;
    }
    for spec in [KeySpec::Aes256, KeySpec::Rsa3072, KeySpec::Rsa4096] {
        if !can.specs.contains(&spec) {
            let request = KeyRequest {
                key_id: KeyId::random(),
                spec,
                adopt: None,
            };
            refused(spec.as_str(), provider.create_key(&cx, &request).await, &unsupported)?;
        }
    }
    Ok(())
}

pub(super) async fn a_probe_answers(bench: Bench) -> Outcome {
    let probe = bench.provider.probe(&bench.cx()).await?;
    ensure((1..=1024).contains(&probe.detail.len()), || {
        format!("a detail of {} bytes", probe.detail.len())
    })
}
