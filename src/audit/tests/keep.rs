//! Removing and archiving the oldest files, killed and failing at each step, and what a start, a copy
//! and an older store make of a log without them.

use std::collections::BTreeMap;
use std::fs;

use claviger_provider::KeyId;

use super::segments::{accepting, numbers, path_of, small, starts, unwraps};
use super::*;

/// So many bytes stay.
const KEPT: u64 = 9 << 10;

/// What always stays behind a file that is removed.
pub(super) const LEAST: u64 = 4 << 10;

fn by_bytes(archive: Option<&Path>) -> Keep {
    Keep {
        bytes: Some(KEPT),
        age: None,
        archive: archive.map(Path::to_owned),
    }
}

impl Bench {
    pub(super) fn keeper(&self, keep: Keep) -> Keeper {
        Keeper::on(self.disk.clone(), self.folder.path(), &self.origin, keep, LEAST)
    }
}

/// Removes all that is due. Returns how many parts were.
pub(super) async fn shorten(log: &Log, keeper: &Keeper) -> Result<usize, KeepError> {
    for removed in 0.. {
        let Some(survey) = log.survey().await else { return Ok(removed) };
        let Some(part) = keeper.next_part(&survey)? else {
            return Ok(removed);
        };
        keeper.remove(log, part, None).await?;
    }
    unreachable!("a log has an end")
}

/// A closed log in several files. Tenant 2 has one record, the first; tenant 1 has 100.
async fn filled() -> Bench {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    unwrap_once(&log, tenant(2)).await.unwrap();
    assert_eq!(unwraps(&log, 100).await, 100);
    log.close().await;
    assert!(starts(&bench).len() > 3, "{:?}", starts(&bench));
    bench
}

/// The folder of the log's files in the archive.
fn archived(archive: &Path, bench: &Bench) -> PathBuf {
    archive.join(bench.origin.installation.to_string()).join(bench.origin.node.as_str())
}

/// All files of the archive and of the folder together, as one log.
fn together(archive: &Path, bench: &Bench) -> Bench {
    let whole = Bench {
        origin: bench.origin.clone(),
        ..Bench::new()
    };
    let old = fs::read_dir(archived(archive, bench)).unwrap().map(|entry| entry.unwrap().path());
    for path in old.chain(bench.log_paths()) {
        let target = whole.folder.path().join(path.file_name().unwrap());
        let content = fs::read(&path).unwrap();
        // One that is in both is the same in both, but for the zeros of one that is not trimmed.
        if target.exists() {
            assert!(content.starts_with(&fs::read(&target).unwrap()), "{}", path.display());
        } else {
            fs::write(target, content).unwrap();
        }
    }
    whole
}

/// The removals that the log's records tell, and how many records tell them.
fn told(bench: &Bench) -> Vec<(u64, u64)> {
    let records = bench.records().into_iter();
    let removed = records.filter_map(|(_, record)| record.removed.filter(|removed| !removed.more));
    removed.map(|removed| (removed.from.get(), removed.to.get())).collect()
}

#[tokio::test]
async fn the_oldest_files_go_and_the_log_goes_on_with_and_without_its_sidecar() {
    let bench = filled().await;
    let before = starts(&bench);
    let records = bench.records();
    let content = fs::read(path_of(&bench, 0)).unwrap();
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    let removed = shorten(&log, &bench.keeper(by_bytes(None))).await.unwrap();
    let after = starts(&bench);
    assert!(removed > 1, "{removed}");
    assert!(
        after[0] > 0 && before.ends_with(&after[..before.len() - removed]),
        "{before:?} {after:?}"
    );
    assert!(bench.end() - after[0] >= KEPT, "too much is gone");
    let pairs: Vec<_> = before.windows(2).take(removed).map(|pair| (pair[0], pair[1])).collect();
    assert_eq!(told(&bench), pairs);
    let record = bench
        .records()
        .into_iter()
        .find_map(|(_, record)| record.removed.clone().map(|removed| (record, removed)));
    let (record, first) = record.unwrap();
    assert_eq!(
        (record.tenant(), record.operation().as_str()),
        (TenantId::INSTALLATION, "RemoveSegment")
    );
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
    assert_eq!(&first.sha256.0, digest.as_ref());
    assert_eq!(first.next[&tenant(2)].get(), 1);
    let window = record.window().unwrap();
    assert_eq!(window.from, records[0].1.time());
    // Nothing more is due.
    assert_eq!(shorten(&log, &bench.keeper(by_bytes(None))).await.unwrap(), 0);
    log.close().await;

    for (round, without_index) in [false, true, true].into_iter().enumerate() {
        if without_index {
            fs::remove_file(bench.index_path()).unwrap();
        }
        let copy = read_copy(bench.folder.path()).unwrap();
        assert_eq!((copy.records(tenant(1)), copy.records(tenant(2))), (100 + round as u64, 1));
        let Recovered { log, was_clean, .. } = bench.try_open(small()).unwrap();
        assert_eq!(was_clean, !without_index);
        assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap().sequence, 100 + round as u64);
        log.close().await;
    }
    // A tenant whose only record is gone goes on with its number.
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    assert_eq!(unwrap_once(&log, tenant(2)).await.unwrap().sequence, 1);
    log.close().await;
    let left = bench.records();
    assert!(left.starts_with(&records[records.len() - left.iter().filter(|record| records.contains(record)).count()..]));
}

/// Shortens copies of a log, each of which is killed one step later than the one before, until one survives. `then`
/// gets each of them, its keeper and the step.
pub(super) async fn killed_at_each_step(original: &Bench, keep: impl Fn(&Bench) -> Keep, then: impl AsyncFn(&Bench, &Keeper, usize)) {
    for step in 0.. {
        let bench = original.crashed();
        let keeper = bench.keeper(keep(&bench));
        let Recovered { log, .. } = bench.try_open(small()).unwrap();
        let begun = bench.disk.get(|disk| disk.steps);
        bench.disk.set(|disk| disk.killed_at = Some(begun + step));
        let done = shorten(&log, &keeper).await;
        let survived = bench.disk.get(|disk| disk.steps <= begun + step);
        log.close().await;
        drop(log);
        bench.disk.set(|disk| disk.killed_at = None);
        then(&bench, &keeper, step).await;
        if survived {
            assert!(step > 10 && done.is_ok(), "{step} steps are too few: {done:?}");
            return;
        }
    }
}

#[tokio::test]
async fn killed_at_each_step_no_record_is_missing_and_the_removal_is_finished() {
    let original = filled().await;
    let archive = |bench: &Bench| bench.folder.path().join("archive");
    let keep = |bench: &Bench| {
        fs::create_dir(archive(bench)).unwrap();
        by_bytes(Some(&archive(bench)))
    };
    for without_index in [false, true] {
        killed_at_each_step(&original, keep, async |bench, keeper, step| {
            if without_index {
                fs::remove_file(bench.index_path()).unwrap();
            }
            let opened = bench.try_open(small());
            let Recovered { log, .. } = opened.unwrap_or_else(|error| panic!("step {step}: {error}"));
            // What is recorded is finished by the start.
            let recorded = told(bench).last().map_or(0, |(_, to)| *to);
            assert_eq!(starts(bench)[0], recorded, "step {step}");
            shorten(&log, keeper).await.unwrap_or_else(|error| panic!("step {step}: {error}"));
            assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap().sequence, 100, "step {step}");
            assert_eq!(unwrap_once(&log, tenant(2)).await.unwrap().sequence, 1, "step {step}");
            log.close().await;
            let whole = together(&archive(bench), bench);
            assert_eq!(numbers(&whole), (0..101).collect::<Vec<_>>(), "step {step}");
            assert_eq!(read_copy(whole.folder.path()).unwrap().records(tenant(2)), 2, "step {step}");
            let unfinished = fs::read_dir(archived(&archive(bench), bench)).unwrap();
            let parts = unfinished.filter(|entry| !entry.as_ref().unwrap().file_name().to_str().unwrap().ends_with(".log"));
            assert_eq!(parts.count(), 0, "step {step}");
        })
        .await;
    }
}

#[tokio::test]
async fn with_an_error_at_each_step_the_next_round_goes_on() {
    let original = filled().await;
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        for step in 1.. {
            let (bench, archive) = (original.crashed(), tempfile::tempdir().unwrap());
            let keeper = bench.keeper(by_bytes(Some(archive.path())));
            let Recovered { log, .. } = bench.try_open(small()).unwrap();
            let begun = bench.disk.get(|disk| disk.steps);
            bench.disk.set(|disk| disk.failing_step = Some((begun + step, kind)));
            // An error is told or made good; what matters is what is left.
            let first = shorten(&log, &keeper).await;
            let reached = bench.disk.get(|disk| disk.steps >= begun + step);
            bench.disk.set(|disk| disk.failing_step = None);
            assert!(first.is_ok() || reached, "step {step}: {first:?}");
            shorten(&log, &keeper)
                .await
                .unwrap_or_else(|error| panic!("step {step} with {kind}: {error}"));
            assert_eq!(starts(&bench)[0], told(&bench).last().unwrap().1, "step {step}");
            assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap().sequence, 100, "step {step}");
            log.close().await;
            fs::remove_file(bench.index_path()).unwrap();
            let Recovered { log, .. } = bench.try_open(small()).unwrap_or_else(|error| panic!("step {step}: {error}"));
            assert_eq!(unwrap_once(&log, tenant(2)).await.unwrap().sequence, 1, "step {step}");
            log.close().await;
            assert_eq!(
                numbers(&together(archive.path(), &bench)),
                (0..101).collect::<Vec<_>>(),
                "step {step}"
            );
            if !reached {
                assert!(step > 15, "{step} steps are too few");
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_is_needed_stays() {
    let bench = filled().await;
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    let keeper = bench.keeper(by_bytes(None));
    // A backup is made.
    let held = hold_files(bench.folder.path()).unwrap();
    assert_eq!(shorten(&log, &keeper).await.unwrap(), 0);
    drop(held);
    // Less than the least would be left.
    let roomy = Keeper::on(bench.disk.clone(), bench.folder.path(), &bench.origin, by_bytes(None), 1 << 20);
    assert_eq!(shorten(&log, &roomy).await.unwrap(), 0);
    // The records are not old enough.
    let old = |age| Keep {
        bytes: None,
        age: Some(age),
        archive: None,
    };
    assert_eq!(shorten(&log, &bench.keeper(old(Duration::from_secs(3600)))).await.unwrap(), 0);
    // An intent is open; those before it go.
    assert!(shorten(&log, &keeper).await.unwrap() > 0);
    let change = StateChange::new(Verb::Create, Object::Key, &KeyId::from_bytes([1; 16]));
    let intent = log.intent(log.entry(tenant(1), Action::CreateKey), change, soon()).await.unwrap();
    let position = intent.position().0;
    unwraps(&log, 100).await;
    let by_age = bench.keeper(old(Duration::ZERO));
    shorten(&log, &by_age).await.unwrap();
    let first = starts(&bench)[..2].to_vec();
    assert!(first[0] <= position && position < first[1], "{first:?} {position}");
    intent
        .resolve(Outcome::Failed("internal"), |_| (), (), soon())
        .await
        .map(drop)
        .unwrap();
    assert!(shorten(&log, &by_age).await.unwrap() > 0, "by age");
    assert!(bench.end() - starts(&bench)[0] >= LEAST);
    log.close().await;
}

#[tokio::test]
async fn on_a_full_disk_a_removal_may_use_the_reserve() {
    let bench = filled().await;
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    bench.until_reserved(&log).await;
    bench.disk.leave(0);
    log.check();
    assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap_err().reason(), Reason::DiskFull);
    assert!(shorten(&log, &bench.keeper(by_bytes(None))).await.unwrap() > 0);
    log.close().await;
    bench.disk.set(|disk| disk.capacity = None);
    fs::remove_file(bench.index_path()).unwrap();
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    assert_eq!(unwrap_once(&log, tenant(2)).await.unwrap().sequence, 1);
    log.close().await;
}

#[tokio::test]
async fn the_archive_is_never_overwritten() {
    let (bench, archive) = (filled().await, tempfile::tempdir().unwrap());
    let folder = archived(archive.path(), &bench);
    fs::create_dir_all(&folder).unwrap();
    let name = "audit-00000000000000000000.log";
    let own = fs::read(path_of(&bench, 0)).unwrap();
    let mut other = own.clone();
    *other.last_mut().unwrap() ^= 1;
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    let keeper = bench.keeper(by_bytes(Some(archive.path())));
    for content in [&other[..], &own[..100], b""] {
        fs::write(folder.join(name), content).unwrap();
        let refused = shorten(&log, &keeper).await.unwrap_err();
        assert!(
            matches!(&refused, KeepError::Archive(ArchiveError::Differs(path)) if path.ends_with(name)),
            "{refused}"
        );
        assert_eq!(fs::read(folder.join(name)).unwrap(), content);
        assert_eq!((starts(&bench)[0], told(&bench).len()), (0, 0));
    }
    // The same content is fine.
    fs::write(folder.join(name), &own).unwrap();
    assert!(shorten(&log, &keeper).await.unwrap() > 0);
    let gone = Keeper::on(
        bench.disk.clone(),
        bench.folder.path(),
        &bench.origin,
        by_bytes(Some(Path::new("/nonexistent"))),
        LEAST,
    );
    unwraps(&log, 100).await;
    let refused = shorten(&log, &gone).await.unwrap_err();
    assert!(matches!(refused, KeepError::Archive(ArchiveError::Folder { .. })), "{refused}");
    log.close().await;
}

#[tokio::test]
async fn a_file_that_is_missing_without_a_record_is_lost() {
    for without_index in [false, true] {
        let bench = filled().await;
        let Recovered { log, .. } = bench.try_open(small()).unwrap();
        shorten(&log, &bench.keeper(by_bytes(None))).await.unwrap();
        unwraps(&log, 50).await;
        log.close().await;
        let (begin, next) = (starts(&bench)[0], starts(&bench)[1]);
        let before = bench.records();
        if without_index {
            fs::remove_file(bench.index_path()).unwrap();
        }
        fs::remove_file(path_of(&bench, begin)).unwrap();
        let refused = bench.try_open(small()).map(drop).unwrap_err();
        let from = if without_index { 0 } else { begin };
        assert!(
            matches!(&refused, OpenError::Missing { from: found, to, .. } if (*found, *to) == (from, next)),
            "{refused}"
        );
        assert!(read_copy(bench.folder.path()).is_err());
        // Only what was removed by another hand is lost.
        let Recovered { log, .. } = bench.try_open(accepting()).unwrap();
        assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap().sequence, 150);
        log.close().await;
        let after = bench.records();
        let lost = after.iter().find_map(|(_, record)| record.lost()).unwrap();
        assert_eq!(lost.to.get(), next);
        assert!((begin..begin + 200).contains(&lost.from.get()), "{lost:?}");
        let left: Vec<_> = before.into_iter().filter(|(position, _)| !lost.contains(position.0)).collect();
        assert!(after.starts_with(&left));
        fs::remove_file(bench.index_path()).unwrap();
        let Recovered { log, .. } = bench.try_open(small()).unwrap();
        log.close().await;
    }
}

#[tokio::test]
async fn the_numbers_of_many_tenants_take_several_records() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    let of = |number: u32| TenantId::from_bytes(std::array::from_fn(|at| number.to_be_bytes()[at % 4] ^ (at / 4) as u8));
    let entries = (0..2500).map(|number| (log.entry(of(number), Action::Wrap), Outcome::Success, ()));
    drop(log.record_batch(entries.collect(), soon()).await.unwrap());
    unwraps(&log, 100).await;
    // These records are longer than the files here, so that there is always something due.
    let keeper = bench.keeper(by_bytes(None));
    for _ in 0..2 {
        let survey = log.survey().await.unwrap();
        let part = keeper.next_part(&survey).unwrap().unwrap();
        keeper.remove(&log, part, None).await.unwrap();
    }
    let mut sizes = BTreeMap::new();
    for (_, record) in bench.records() {
        let Some(removed) = record.removed else { continue };
        sizes.entry(removed.to.get()).or_insert_with(Vec::new).push(removed.next.len());
    }
    assert!(
        sizes
            .into_values()
            .any(|sizes| sizes.len() == 3 && sizes.iter().sum::<usize>() >= 2500)
    );
    log.close().await;
    fs::remove_file(bench.index_path()).unwrap();
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    for number in [0, 1, 1234, 2499] {
        assert_eq!(unwrap_once(&log, of(number)).await.unwrap().sequence, 1, "{number}");
    }
    log.close().await;
}

#[tokio::test]
async fn an_older_store_lacks_the_changes_whose_records_are_removed() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    let change = StateChange::new(Verb::Create, Object::Key, &KeyId::from_bytes([1; 16]));
    let intent = log.intent(log.entry(tenant(1), Action::CreateKey), change, soon()).await.unwrap();
    let position = intent.position();
    intent.resolve(Outcome::Success, |_| (), (), soon()).await.map(drop).unwrap();
    unwraps(&log, 100).await;
    let keeper = bench.keeper(by_bytes(None));
    let survey = log.survey().await.unwrap();
    let part = keeper.next_part(&survey).unwrap().unwrap();
    assert!(part.end() > position);
    keeper.remove(&log, part, Some(position)).await.unwrap();
    shorten(&log, &keeper).await.unwrap();
    log.close().await;
    for without_index in [false, true] {
        if without_index {
            fs::remove_file(bench.index_path()).unwrap();
        }
        let Recovered { log, history, .. } = bench.try_open(small()).unwrap();
        assert_eq!(history.lacks_removed(None), Some(position));
        assert_eq!(history.lacks_removed(Some(Position(position.0 - 1))), Some(position));
        assert_eq!(history.lacks_removed(Some(position)), None);
        assert!(history.missing_in(&[position], Some(position)).unwrap().is_empty());
        log.close().await;
    }
}

#[tokio::test]
async fn a_change_of_a_newer_release_is_refused_by_its_word() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    let change = StateChange::new(Verb::Create, Object::Key, &KeyId::from_bytes([1; 16]));
    let intent = log.intent(log.entry(tenant(1), Action::CreateKey), change, soon()).await.unwrap();
    let position = intent.position();
    let crashed = bench.crashed();
    intent.resolve(Outcome::Success, |_| (), (), soon()).await.map(drop).unwrap();
    log.close().await;
    // The verb of another release, with a checksum that is right.
    let mut content = fs::read(crashed.log_path()).unwrap();
    let at = position.0 as usize;
    let (json, _) = frame::parse(&content[at..]).unwrap();
    let json = String::from_utf8(json.to_vec()).unwrap().replace("\"create\"", "\"vanish\"");
    content[at + frame::PREFIX..at + frame::PREFIX + json.len()].copy_from_slice(json.as_bytes());
    content[at + 4..at + frame::PREFIX].copy_from_slice(&crc32c::crc32c(json.as_bytes()).to_be_bytes());
    fs::write(crashed.log_path(), &content).unwrap();
    let refused = crashed.try_open(small()).map(drop).unwrap_err();
    assert!(
        matches!(&refused, OpenError::UnknownVerb { at, verb } if *at == position.0 && verb == "vanish"),
        "{refused}"
    );
    assert!(refused.to_string().contains("a newer release wrote it. Start that release"));
    assert_eq!(fs::read(crashed.log_path()).unwrap(), content, "a refused log is not changed");
}

#[tokio::test]
async fn a_copy_of_a_shortened_log_says_where_it_is_damaged() {
    let bench = filled().await;
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    assert!(shorten(&log, &bench.keeper(by_bytes(None))).await.unwrap() > 1);
    log.close().await;
    // Before the records of the removals.
    let first = starts(&bench)[0];
    let (Position(at), _) = bench.records().into_iter().find(|(at, _)| at.0 > first).unwrap();
    let path = path_of(&bench, first);
    let mut bytes = fs::read(&path).unwrap();
    bytes[(at - first) as usize + 20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let refused = read_copy(bench.folder.path()).unwrap_err();
    assert!(
        matches!(&refused, OpenError::Damaged { at: found, .. } if *found == at),
        "{refused}"
    );
}
