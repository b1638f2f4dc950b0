//! The files of a running log: their lengths, the next one, the links of a backup, and one that the log does not hold
//! open.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::segments::{numbers, path_of, small, starts, unwraps};
use super::*;

async fn until(what: &str, log: &Log, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            log.check();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.expect(what);
}

#[tokio::test]
async fn each_file_is_twice_as_long_up_to_the_most() {
    let usual = Options::default().segments;
    assert_eq!((usual.first, usual.most), (1 << 20, 64 << 20));
    let bench = Bench::new();
    let options = Options {
        segments: SegmentSizes {
            first: 4 << 10,
            most: 16 << 10,
        },
        ..Bench::options()
    };
    let Recovered { log, .. } = bench.try_open(options).unwrap();
    let mut lengths = Vec::new();
    while lengths.len() < 4 {
        let files = starts(&bench);
        if files.len() > lengths.len() {
            let last = path_of(&bench, files[files.len() - 1]);
            lengths.push(fs::metadata(last).unwrap().len() >> 10);
        }
        assert_eq!(unwraps(&log, 1).await, 1);
    }
    assert_eq!(lengths, [4, 8, 16, 16]);
    log.close().await;
}

#[tokio::test]
async fn the_next_file_is_made_before_the_last_one_is_full() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    for files in 1..4 {
        let last = starts(&bench)[files - 1];
        let length = fs::metadata(path_of(&bench, last)).unwrap().len();
        // What makes it half full, and one more, which finds it so.
        while bench.end() - last <= length / 2 {
            assert_eq!(unwraps(&log, 1).await, 1);
        }
        assert_eq!(unwraps(&log, 1).await, 1);
        assert_eq!(starts(&bench).len(), files, "it is full already");
        until("the next file is not made", &log, || {
            bench.folder.path().join("audit.next").exists()
        })
        .await;
        while starts(&bench).len() == files {
            assert_eq!(unwraps(&log, 1).await, 1);
        }
    }
    log.close().await;
}

/// A backup may link files instead of copying them.
#[tokio::test]
async fn another_link_to_a_file_changes_nothing() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    assert_eq!(unwraps(&log, 40).await, 40);
    let (first, last) = (starts(&bench)[0], *starts(&bench).last().unwrap());
    let inode = |start| fs::metadata(path_of(&bench, start)).unwrap().ino();
    let before = [inode(first), inode(last)];
    for (number, start) in [first, last].into_iter().enumerate() {
        fs::hard_link(path_of(&bench, start), bench.folder.path().join(format!("backup-{number}"))).unwrap();
    }
    let files = Segments::open_beside(bench.folder.path(), &bench.origin, Arc::new(RealDisk)).unwrap();
    assert_eq!(files.look().unwrap(), None);
    assert_eq!(unwraps(&log, 1).await, 1);
    assert_eq!(([inode(first), inode(last)], log.health()), (before, Health::Sound));
    assert!(bench.records().iter().all(|(_, record)| record.kind() != Kind::Restarted));
    log.close().await;
}

#[tokio::test]
async fn of_an_old_file_that_was_removed_its_own_records_are_lost() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    let mut written = 0;
    while starts(&bench).len() < 20 {
        written += unwraps(&log, 1).await;
    }
    let (first, records) = (path_of(&bench, 0), bench.records());
    let second = starts(&bench)[1];
    fs::remove_file(&first).unwrap();
    until("the file does not come back", &log, || {
        first.exists() && log.health() == Health::Sound
    })
    .await;
    assert_eq!(unwraps(&log, 1).await, 1);
    let lost: Vec<_> = bench.records().iter().filter_map(|(_, record)| record.lost()).collect();
    let of_first = records.iter().filter(|(position, _)| position.0 < second).count() as u64;
    assert_eq!(lost, [Lost::new(records[0].0.0, second)]);
    assert_eq!(numbers(&bench), (of_first..=written).collect::<Vec<_>>());
    log.close().await;
}
