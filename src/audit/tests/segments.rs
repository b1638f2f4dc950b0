//! The log in many files: filling, closing and making them, killed at each step; taking over the
//! one file of earlier releases; and files that are missing.

use std::fs;

use super::super::index::{self, Found, Index, Standing, Tip};
use super::super::state::State;
use super::*;

/// Options with files of a few records each.
pub(super) fn small() -> Options {
    Options {
        segments: SegmentSizes {
            first: 4 << 10,
            most: 8 << 10,
        },
        ..Bench::options()
    }
}

/// Records unwraps of tenant 1 until one fails, at most that many. Returns the number of
/// acknowledged ones.
pub(super) async fn unwraps(log: &Log, most: u64) -> u64 {
    for number in 0..most {
        if unwrap_once(log, tenant(1)).await.is_err() {
            return number;
        }
    }
    most
}

/// Opens the log and closes it. Returns whether it was clean.
async fn reopens(bench: &Bench) -> bool {
    let Recovered { log, was_clean, .. } = bench.try_open(small()).unwrap();
    log.close().await;
    was_clean
}

/// The numbers of tenant 1 in the log.
pub(super) fn numbers(bench: &Bench) -> Vec<u64> {
    let of_tenant = bench.records().into_iter().filter(|(_, record)| record.tenant() == tenant(1));
    of_tenant.map(|(_, record)| record.sequence()).collect()
}

/// The position at which each file begins, as its name says.
pub(super) fn starts(bench: &Bench) -> Vec<u64> {
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let start = |name: String| match name.as_str() {
        "audit.log" => 0,
        _ => name["audit-".len()..name.len() - ".log".len()].parse().unwrap(),
    };
    let mut starts: Vec<_> = bench.log_paths().into_iter().map(|path| start(name(path))).collect();
    starts.sort_unstable();
    starts
}

pub(super) fn path_of(bench: &Bench, start: u64) -> PathBuf {
    bench.folder.path().join(format!("audit-{start:020}.log"))
}

/// A closed log in at least four files, with 100 records of tenant 1.
pub(super) async fn closed() -> (Bench, Vec<u64>) {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    assert_eq!(unwraps(&log, 100).await, 100);
    log.close().await;
    let starts = starts(&bench);
    assert!(starts.len() > 3, "{starts:?}");
    (bench, starts)
}

/// A log like one of an earlier release: one file, which has the records of the other log.
fn as_old(bench: &Bench) -> Bench {
    let old = Bench::new();
    let mut bytes = frame::old_header(&old.origin).into_bytes();
    let log = Segments::open_beside(bench.folder.path(), &bench.origin, Arc::new(RealDisk)).unwrap();
    let mut content = vec![0; bench.end() as usize];
    log.read_at(0, &mut content).unwrap();
    for (position, _) in bench.records() {
        let at = position.0 as usize;
        let length = frame::PREFIX + frame::parse(&content[at..]).unwrap().0.len();
        bytes.extend_from_slice(&content[at..at + length]);
    }
    fs::write(old.folder.path().join("audit.log"), bytes).unwrap();
    old
}

#[tokio::test]
async fn a_log_goes_on_in_files_that_are_named_after_their_positions() {
    let (bench, starts) = closed().await;
    let records = bench.records();
    for (number, start) in starts.iter().enumerate() {
        let content = fs::read(path_of(&bench, *start)).unwrap();
        assert!(content.starts_with(frame::header(&bench.origin, *start).as_bytes()));
        match starts.get(number + 1) {
            Some(next) => assert_eq!(content.len() as u64, next - start, "a closed file has no zeros"),
            None => assert!(content.ends_with(&[0; 16]), "the last file shows that none is missing"),
        }
    }
    let first = records[0].0.0;
    assert_eq!(first, frame::header(&bench.origin, 0).len() as u64);
    assert!(records.is_sorted_by_key(|(position, _)| *position));
    // The sidecar and the whole log give the same.
    for removed in [false, true] {
        if removed {
            fs::remove_file(bench.index_path()).unwrap();
        }
        let Recovered { log, was_clean, .. } = bench.try_open(small()).unwrap();
        assert_eq!(was_clean, !removed);
        unwrap_once(&log, tenant(1)).await.unwrap();
        log.close().await;
    }
    assert_eq!(numbers(&bench), (0..102).collect::<Vec<_>>());
    assert_eq!(bench.records()[..records.len()], records);
}

#[tokio::test]
async fn a_commit_that_is_longer_than_a_file_gets_one_of_its_own() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    let entries = (0..200)
        .map(|_| (log.entry(tenant(1), Action::Wrap), Outcome::Success, ()))
        .collect();
    let recorded = log.record_batch(entries, soon()).await.unwrap();
    let last = recorded.last().unwrap().receipt().unwrap().clone();
    unwrap_once(&log, tenant(1)).await.unwrap();
    assert_eq!(bench.records()[199].0, last.position);
    assert_eq!(numbers(&bench), (0..201).collect::<Vec<_>>());
    log.close().await;
    assert!(reopens(&bench).await);
}

/// Kills at every step of the disk while files are made, filled and closed: no acknowledged
/// record is missing, and the log goes on.
#[tokio::test]
async fn killed_at_each_step_no_acknowledged_record_is_missing() {
    for step in 0.. {
        let bench = Bench::new();
        bench.disk.set(|disk| disk.killed_at = Some(step));
        let mut acknowledged = 0;
        let opened = bench.try_open(small());
        if let Ok(Recovered { log, .. }) = &opened {
            acknowledged = unwraps(log, 50).await;
            log.close().await;
        }
        drop(opened);
        let survived = bench.disk.get(|disk| disk.steps <= step);
        go_on(&bench, acknowledged, step).await;
        if survived {
            assert!(step > 100 && starts(&bench).len() > 2, "{step} steps are too few");
            return;
        }
    }
}

/// Opens the folder on a disk that works; the records of before are there, and more are added.
async fn go_on(bench: &Bench, acknowledged: u64, step: usize) {
    bench.disk.set(|disk| (disk.killed_at, disk.failing_step) = (None, None));
    let Recovered { log, .. } = bench.try_open(small()).unwrap_or_else(|error| panic!("step {step}: {error}"));
    let next = unwrap_once(&log, tenant(1)).await.unwrap().sequence;
    assert!(next >= acknowledged, "step {step}: {next} of {acknowledged} are left");
    unwraps(&log, 5).await;
    log.close().await;
    assert_eq!(numbers(bench), (0..next + 6).collect::<Vec<_>>(), "step {step}");
    assert!(reopens(bench).await, "step {step}");
}

/// Each step of the disk fails once: what is refused is refused, and the log recovers.
#[tokio::test]
async fn with_an_error_at_each_step_no_acknowledged_record_is_missing() {
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        for step in 1.. {
            let bench = Bench::new();
            bench.disk.set(|disk| disk.failing_step = Some((step, kind)));
            let mut acknowledged = Vec::new();
            let opened = bench.try_open(small());
            if let Ok(Recovered { log, .. }) = &opened {
                for _ in 0..30 {
                    if let Ok(receipt) = unwrap_once(log, tenant(1)).await {
                        acknowledged.push(receipt.sequence);
                    }
                }
                assert!(acknowledged.len() > 20, "step {step} with {kind}: the log does not recover");
                log.close().await;
            }
            drop(opened);
            let reached = bench.disk.get(|disk| disk.steps >= step);
            go_on(&bench, acknowledged.len() as u64, step).await;
            if !reached {
                break;
            }
        }
    }
}

#[tokio::test]
async fn the_file_of_an_earlier_release_is_the_first_and_stays() {
    let (before, _) = closed().await;
    let torn = before.records().len();
    for cut in [0, 10] {
        let bench = as_old(&before);
        let path = bench.folder.path().join("audit.log");
        let mut old = fs::read(&path).unwrap();
        old.truncate(old.len() - cut);
        fs::write(&path, &old).unwrap();
        let places: Vec<_> = bench.records_of_torn();
        let Recovered { log, history, .. } = bench.try_open(small()).unwrap();
        assert_eq!(history.last_effective(), None);
        let receipt = unwrap_once(&log, tenant(1)).await.unwrap();
        let kept = torn as u64 - u64::from(cut > 0);
        assert_eq!(receipt.sequence, kept);
        log.close().await;
        let end = starts(&bench)[1];
        assert_eq!(fs::read(&path).unwrap(), old[..end as usize], "it is changed");
        assert!(receipt.position.0 > end);
        let positions: Vec<_> = bench.records().iter().map(|(position, _)| *position).collect();
        assert_eq!(positions[..kept as usize], places[..kept as usize], "positions stay");
        assert!(reopens(&bench).await);
        // An earlier release that is started now finds its file shorter than the sidecar says. One
        // that wrote to it all the same is noticed.
        let Found::Known(known) = Index::of(bench.folder.path(), bench.disk.clone()).read(&bench.origin).unwrap() else {
            panic!("no sidecar")
        };
        assert!(known.tip.end > end);
        fs::write(&path, [&old[..end as usize], b"more"].concat()).unwrap();
        let refused = bench.try_open(small()).map(drop).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged { at, .. } if at == end), "{refused}");
    }
}

impl Bench {
    /// The positions of the whole records of an old file that may have a torn end.
    fn records_of_torn(&self) -> Vec<Position> {
        let file = Segments::open_beside(self.folder.path(), &self.origin, Arc::new(RealDisk)).unwrap();
        let mut frames = Frames::from(&file, 0);
        let mut found = Vec::new();
        loop {
            match frames.step().unwrap() {
                Step::Frame { position, .. } => found.push(position),
                Step::Header | Step::Skip(_) => {}
                Step::End | Step::Damaged { .. } => return found,
            }
        }
    }
}

#[tokio::test]
async fn taking_over_the_file_of_an_earlier_release_survives_a_kill_at_each_step() {
    let (before, _) = closed().await;
    for step in 0.. {
        let bench = as_old(&before);
        bench.disk.set(|disk| disk.killed_at = Some(step));
        let mut acknowledged = 100;
        let opened = bench.try_open(small());
        if let Ok(Recovered { log, .. }) = &opened {
            acknowledged += unwraps(log, 3).await;
            log.close().await;
        }
        drop(opened);
        let survived = bench.disk.get(|disk| disk.steps <= step);
        go_on(&bench, acknowledged, step).await;
        if survived {
            assert!(step > 8, "{step} steps are too few");
            return;
        }
    }
}

#[tokio::test]
async fn damage_at_any_byte_of_the_last_file_is_refused_or_of_the_last_commit() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    let mut receipts = Vec::new();
    while starts(&bench).len() < 2 || receipts.len() < 10 {
        receipts.push(unwrap_once(&log, tenant(1)).await.unwrap());
    }
    for _ in 0..2 {
        receipts.push(unwrap_once(&log, tenant(1)).await.unwrap());
    }
    let start = *starts(&bench).last().unwrap();
    let header = frame::header(&bench.origin, start).len() as u64;
    let (last, end) = (receipts.last().unwrap().position.0, bench.end());
    let crashed = bench.crashed();
    fs::remove_file(crashed.index_path()).unwrap();
    let path = path_of(&crashed, start);
    let whole = fs::read(&path).unwrap();
    let all = receipts.len();
    for at in (start..end + 20).chain([end + 1000]) {
        let mut damaged = whole.clone();
        damaged[(at - start) as usize] ^= 0x20;
        fs::write(&path, &damaged).unwrap();
        let opened = crashed.try_open(small());
        if at < last {
            let refused = opened.map(drop).expect_err("it is opened");
            let expected = match at < start + header {
                true => matches!(refused, OpenError::NotALog { at, .. } if at == start) || matches!(refused, OpenError::Foreign { .. }),
                false => matches!(refused, OpenError::Damaged { at: found, .. } if found <= at),
            };
            assert!(expected, "byte {at}: {refused}");
            assert_eq!(fs::read(&path).unwrap(), damaged, "a refused log is not changed");
            continue;
        }
        let Recovered { log, .. } = opened.unwrap_or_else(|error| panic!("byte {at}: {error}"));
        log.close().await;
        let left = numbers(&crashed).len();
        assert_eq!(left, all - usize::from(at < end), "byte {at}");
        let restarted = crashed.records().pop().unwrap().1;
        assert!(restarted.truncated_bytes.is_some(), "byte {at}");
        fs::remove_file(crashed.index_path()).unwrap();
    }
}

pub(super) fn accepting() -> Options {
    Options {
        accept_lost_log: true,
        ..small()
    }
}

#[tokio::test]
async fn a_missing_or_shorter_file_in_the_middle_is_told_and_goes_on_if_accepted() {
    for (number, shorter) in [(0, false), (1, false), (2, false), (1, true)] {
        let (bench, starts) = closed().await;
        let before = bench.records();
        let path = path_of(&bench, starts[number]);
        let cut = if shorter { 2000 } else { 0 };
        match shorter {
            true => File::options().write(true).open(&path).unwrap().set_len(cut).unwrap(),
            false => fs::remove_file(&path).unwrap(),
        }
        let refused = bench.try_open(small()).map(drop).unwrap_err();
        assert!(
            matches!(&refused, OpenError::Missing { from, to, file }
                if (*from, *to) == (starts[number] + cut, starts[number + 1]) && file.starts_with("audit-")),
            "{refused}"
        );
        let Recovered { log, .. } = bench.try_open(accepting()).unwrap();
        assert_eq!(
            unwrap_once(&log, tenant(1)).await.unwrap().sequence,
            100,
            "no number is given twice"
        );
        log.close().await;
        let after = bench.records();
        let [lost] = after.iter().filter_map(|(_, record)| record.lost()).collect::<Vec<_>>()[..] else {
            panic!("one part is lost")
        };
        assert_eq!(lost.to.get(), starts[number + 1]);
        let left: Vec<_> = before.iter().filter(|(position, _)| !lost.contains(position.0)).cloned().collect();
        assert!(left.len() < before.len() && after.starts_with(&left), "what is left is kept");
        assert!(reopens(&bench).await);
        fs::remove_file(bench.index_path()).unwrap();
        assert!(!reopens(&bench).await, "the log is read as a whole");
    }
}

#[tokio::test]
async fn a_missing_last_file_is_told() {
    for with_index in [true, false] {
        let (bench, starts) = closed().await;
        let last = *starts.last().unwrap();
        fs::remove_file(path_of(&bench, last)).unwrap();
        if !with_index {
            fs::remove_file(bench.index_path()).unwrap();
        }
        let refused = bench.try_open(small()).map(drop).unwrap_err();
        let told = match with_index {
            true => matches!(refused, OpenError::Lost { found, .. } if found == last),
            false => matches!(refused, OpenError::LacksNext { at } if at == last),
        };
        assert!(told, "{refused}");
        let Recovered { log, .. } = bench.try_open(accepting()).unwrap();
        assert_eq!(unwraps(&log, 20).await, 20);
        log.close().await;
        assert!(reopens(&bench).await);
    }
}

#[tokio::test]
async fn a_closed_file_that_is_removed_while_the_log_runs_comes_back() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    unwraps(&log, 100).await;
    let before = bench.records();
    let path = path_of(&bench, starts(&bench)[1]);
    fs::remove_file(&path).unwrap();
    let back = async {
        while !path.exists() || log.health() != Health::Sound {
            log.check();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), back)
        .await
        .expect("it does not come back");
    unwraps(&log, 5).await;
    assert!(bench.records().starts_with(&before));
    // One that is replaced by another file of its length.
    let replaced = bench.folder.path().join("audit.other");
    fs::write(&replaced, vec![b'x'; fs::metadata(&path).unwrap().len() as usize]).unwrap();
    fs::rename(&replaced, &path).unwrap();
    let back = async {
        while fs::read(&path).unwrap()[0] == b'x' || log.health() != Health::Sound {
            log.check();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), back)
        .await
        .expect("it does not come back");
    assert!(bench.records().starts_with(&before));
    // One that is cut: what is gone is reported, and nothing else.
    let cut = File::options().write(true).open(&path).unwrap();
    let length = cut.metadata().unwrap().len();
    cut.set_len(2000).unwrap();
    let told = async {
        while cut.metadata().unwrap().len() < length || log.health() != Health::Sound {
            log.check();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.expect("it is not found");
    assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap().sequence, 105);
    log.close().await;
    let records = bench.records();
    let lost = records.iter().find_map(|(_, record)| record.lost()).unwrap();
    let left: Vec<_> = before.into_iter().filter(|(position, _)| !lost.contains(position.0)).collect();
    assert!(records.starts_with(&left));
    assert!(reopens(&bench).await);
}

/// 100,000,000 records of 800 bytes in closed files of 64 MiB, which have no blocks on the disk.
#[tokio::test]
async fn a_start_with_a_great_many_closed_files_reads_their_first_lines_alone() {
    const FILE: u64 = 64 << 20;
    const FILES: u64 = 1200;
    const LAST: u64 = 8 << 20;
    let bench = Bench::new();
    for number in 0..=FILES {
        let start = number * FILE;
        fs::write(path_of(&bench, start), frame::header(&bench.origin, start)).unwrap();
        let file = File::options().write(true).open(path_of(&bench, start)).unwrap();
        file.set_len(if number == FILES { LAST } else { FILE }).unwrap();
    }
    let last = FILES * FILE;
    let tip = Tip {
        end: last + frame::header(&bench.origin, last).len() as u64,
        commit: Some(last),
    };
    let index = index::encode(&bench.origin, &State::default(), tip, Standing::InUse);
    Index::of(bench.folder.path(), bench.disk.clone()).write(&index).unwrap();
    let begun = Instant::now();
    let Recovered { log, .. } = bench.open();
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert!(unwrap_once(&log, tenant(1)).await.unwrap().position.0 > last);
}
