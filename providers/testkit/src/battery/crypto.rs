//! Wrap and unwrap, and ciphertexts that must not unwrap.

use claviger_provider::{Algorithm, ContextBinding, ErrorKind, How, Secret};
use futures::future::try_join_all;

use super::bench::{Bench, Failure, Outcome, changed, context, ensure, refused};

const REJECTED: [ErrorKind; 1] = [ErrorKind::CiphertextRejected];

pub(super) async fn every_length_comes_back(bench: Bench) -> Outcome {
    let (cx, kek, context) = (bench.cx(), bench.primary().await?, context("lengths"));
    let max = bench.can.max_plaintext;
    let lengths = [1, 15, 16, 24, 32, 48, 64, 65, 255, 256, 257, 1024, 4095, 4096, max];
    for len in lengths.into_iter().filter(|len| *len <= max) {
        let dek = Secret::random(len);
        if !bench.takes(len) {
            let result = bench.provider.wrap_key(&cx, &kek, &dek, &context).await;
            refused(&format!("{len} bytes"), result, &[ErrorKind::InvalidInput])?;
            continue;
        }
        let wrapped = bench.provider.wrap_key(&cx, &kek, &dek, &context).await?;
        ensure((1..=6144).contains(&wrapped.ciphertext.len()), || {
            format!("{len}: a ciphertext of {} bytes", wrapped.ciphertext.len())
        })?;
        ensure(wrapped.key.id == kek.key.id, || format!("{len}: wrapped under another key"))?;
        let shows = len >= 16 && wrapped.ciphertext.windows(len).any(|window| window == dek.expose());
        ensure(!shows, || format!("{len}: the ciphertext shows the key"))?;
        let opened = bench.provider.unwrap_key(&cx, &wrapped, &context).await?;
        ensure(opened == dek, || format!("{len}: another key came back"))?;
    }
    Ok(())
}

pub(super) async fn lengths_out_of_bounds_are_refused(bench: Bench) -> Outcome {
    let (cx, kek, context) = (bench.cx(), bench.primary().await?, context("bounds"));
    let max = bench.can.max_plaintext;
    for (len, expected) in [(0, ErrorKind::InvalidInput), (max + 1, ErrorKind::TooLarge)] {
        let result = bench.provider.wrap_key(&cx, &kek, &Secret::random(len), &context).await;
        refused(&format!("{len} bytes"), result, &[expected])?;
    }
    Ok(())
}

pub(super) async fn another_context_is_rejected_where_it_is_bound(bench: Bench) -> Outcome {
    let (cx, kek, dek) = (bench.cx(), bench.primary().await?, Secret::random(32));
    let wrapped = bench.provider.wrap_key(&cx, &kek, &dek, &context("right")).await?;
    let result = bench.provider.unwrap_key(&cx, &wrapped, &context("wrong")).await;
    match bench.can.context {
        ContextBinding::Pairs | ContextBinding::AssociatedData => refused("another context", result, &REJECTED),
        ContextBinding::CommitmentOnly => ensure(result? == dek, || "a context that is not bound changed the key".into()),
    }
}

pub(super) async fn another_key_does_not_open(bench: Bench) -> Outcome {
    let (cx, context, dek) = (bench.cx(), context("keys"), Secret::random(32));
    let (kek, other) = (bench.primary().await?, bench.primary().await?);
    let wrapped = bench.provider.wrap_key(&cx, &kek, &dek, &context).await?;
    let forged = changed(&wrapped, |wrapped| wrapped.key = other.key.clone());
    refused("another key", bench.provider.unwrap_key(&cx, &forged, &context).await, &REJECTED)
}

pub(super) async fn a_flipped_bit_is_rejected_everywhere(bench: Bench) -> Outcome {
    let (cx, kek, context) = (bench.cx(), bench.primary().await?, context("flips"));
    let wrapped = bench.provider.wrap_key(&cx, &kek, &Secret::random(32), &context).await?;
    for at in 0..wrapped.ciphertext.len() {
        let bit = 1 << (at % 8);
        let flipped = changed(&wrapped, |wrapped| wrapped.ciphertext[at] ^= bit);
        let result = bench.provider.unwrap_key(&cx, &flipped, &context).await;
        refused(&format!("byte {at}"), result, &REJECTED)?;
    }
    Ok(())
}

pub(super) async fn a_cut_or_longer_ciphertext_is_rejected(bench: Bench) -> Outcome {
    let (cx, kek, context) = (bench.cx(), bench.primary().await?, context("cuts"));
    let wrapped = bench.provider.wrap_key(&cx, &kek, &Secret::random(32), &context).await?;
    let whole = wrapped.ciphertext.len();
    for len in [0, 1, whole / 2, whole - 1, whole + 1, 6144] {
        let other = changed(&wrapped, |wrapped| wrapped.ciphertext.resize(len, 0));
        let result = bench.provider.unwrap_key(&cx, &other, &context).await;
        refused(&format!("{len} of {whole} bytes"), result, &REJECTED)?;
    }
    Ok(())
}

pub(super) async fn another_algorithm_is_rejected(bench: Bench) -> Outcome {
    let (cx, kek, context) = (bench.cx(), bench.primary().await?, context("algorithms"));
    let wrapped = bench.provider.wrap_key(&cx, &kek, &Secret::random(32), &context).await?;
    for algorithm in Algorithm::ALL.into_iter().filter(|other| *other != wrapped.algorithm) {
        let other = changed(&wrapped, |wrapped| wrapped.algorithm = algorithm);
        let result = bench.provider.unwrap_key(&cx, &other, &context).await;
        refused(&format!("{algorithm:?}"), result, &REJECTED)?;
    }
    Ok(())
}

pub(super) async fn generated_keys_open_and_differ(bench: Bench) -> Outcome {
    let (cx, kek, context) = (bench.cx(), bench.primary().await?, context("generated"));
    if bench.can.generate_data_key != How::InsideProvider {
        let result = bench.provider.generate_data_key(&cx, &kek, 32, &context).await;
        return refused("generate_data_key", result, &[ErrorKind::Unsupported]);
    }
    for bytes in [16, 24, 32, 48, 64] {
        let first = bench.provider.generate_data_key(&cx, &kek, bytes, &context).await?;
        let second = bench.provider.generate_data_key(&cx, &kek, bytes, &context).await?;
        ensure(first.plaintext.len() == bytes, || {
            format!("{} bytes instead of {bytes}", first.plaintext.len())
        })?;
        ensure(first.plaintext != second.plaintext, || "the same key twice".into())?;
        let opened = bench.provider.unwrap_key(&cx, &first.wrapped, &context).await?;
        ensure(opened == first.plaintext, || "another key came back".into())?;
    }
    Ok(())
}

pub(super) async fn rewrapped_keys_open(bench: Bench) -> Outcome {
    let (cx, context, dek) = (bench.cx(), context("rewrap"), Secret::random(32));
    let (kek, to) = (bench.primary().await?, bench.primary().await?);
    let wrapped = bench.provider.wrap_key(&cx, &kek, &dek, &context).await?;
    let result = bench.provider.rewrap_key(&cx, &wrapped, &to, &context).await;
    if bench.can.rewrap != How::InsideProvider {
        return refused("rewrap_key", result, &[ErrorKind::Unsupported]);
    }
    let rewrapped = result?.wrapped;
    ensure(rewrapped.key.id == to.key.id, || "rewrapped under another key".into())?;
    let opened = bench.provider.unwrap_key(&cx, &rewrapped, &context).await?;
    ensure(opened == dek, || "another key came back".into())?;
    let flipped = changed(&wrapped, |wrapped| wrapped.ciphertext[0] ^= 1);
    let result = bench.provider.rewrap_key(&cx, &flipped, &to, &context).await;
    refused("rewrap of a flipped bit", result, &REJECTED)
}

pub(super) async fn sixty_four_callers_at_once(bench: Bench) -> Outcome {
    let kek = bench.primary().await?;
    let bench = &bench;
    try_join_all((0..64).map(|caller| {
        let (cx, kek, context) = (bench.cx(), kek.clone(), context(&format!("caller {caller}")));
        async move {
            let dek = Secret::random(32);
            let wrapped = bench.provider.wrap_key(&cx, &kek, &dek, &context).await?;
            let opened = bench.provider.unwrap_key(&cx, &wrapped, &context).await?;
            ensure(opened == dek, || format!("caller {caller}: another key came back"))?;
            Ok::<_, Failure>(())
        }
    }))
    .await
    .map(drop)
}
