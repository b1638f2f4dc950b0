//! Copies of a log that is in use, cut at any record, over several files.

use std::collections::BTreeSet;
use std::fs;

use super::super::segments::names;
use super::*;

fn options() -> Options {
    Options {
        segments: SegmentSizes {
            first: 2 << 10,
            most: 4 << 10,
        },
        ..Bench::options()
    }
}

/// Copies the log up to this position. Returns how many records tenant 1 has in the copy.
fn copied(bench: &Bench, until: u64) -> (Bench, u64) {
    let copy = Bench {
        origin: bench.origin.clone(),
        ..Bench::new()
    };
    let made = copy_log(bench.folder.path(), copy.folder.path(), until, None, None).unwrap();
    assert_eq!((&made.origin, made.bytes), (&bench.origin, until));
    (copy, made.records(tenant(1)))
}

/// A log in use in several files. Its first file is that of an earlier release, or it is not.
async fn in_use(old: bool) -> (Bench, Log, Vec<Receipt>) {
    let bench = Bench::new();
    if old {
        let line = frame::old_header(&bench.origin);
        fs::write(bench.folder.path().join("audit.log"), line).unwrap();
    }
    let Recovered { log, .. } = bench.try_open(options()).unwrap();
    let mut receipts = Vec::new();
    while bench.log_paths().len() < 4 {
        receipts.push(unwrap_once(&log, tenant(1)).await.unwrap());
    }
    receipts.push(unwrap_once(&log, tenant(1)).await.unwrap());
    (bench, log, receipts)
}

#[tokio::test]
async fn a_copy_that_ends_at_any_record_starts_and_goes_on() {
    for old in [false, true] {
        let (bench, log, receipts) = in_use(old).await;
        assert_eq!(end_of_log(bench.folder.path(), None).unwrap(), bench.end());
        let mut files = BTreeSet::new();
        // Where a file ends is before the header line of the next one.
        let starts = names(bench.folder.path()).unwrap().into_iter().map(|(_, start)| start);
        let ends = receipts
            .iter()
            .map(|receipt| receipt.position.0)
            .chain(starts.skip(1))
            .chain([bench.end()]);
        for until in ends {
            let (copy, has) = copied(&bench, until);
            let before = receipts.iter().filter(|receipt| receipt.position.0 < until).count() as u64;
            assert_eq!(has, before, "up to {until}");
            files.insert(log_files(copy.folder.path()).unwrap().len());
            let Recovered { log, .. } = copy.try_open(options()).unwrap();
            let receipt = unwrap_once(&log, tenant(1)).await.unwrap();
            assert_eq!(receipt.sequence, before, "up to {until}");
            log.close().await;
            assert_eq!(read_copy(copy.folder.path()).unwrap().records(tenant(1)), before + 1);
        }
        assert!(files.len() > 3, "{files:?}");
        log.close().await;
    }
}

#[tokio::test]
async fn a_copy_reaches_to_the_records_that_it_is_made_with() {
    let (bench, log, receipts) = in_use(false).await;
    let [.., before, last] = &receipts[..] else { panic!("no records") };
    let file = Segments::open_beside(bench.folder.path(), &bench.origin, Arc::new(RealDisk)).unwrap();
    let mut frames = Frames::from(&file, last.position.0);
    let Step::Frame { json, .. } = frames.step().unwrap() else {
        panic!("no record")
    };
    let last_record = LastRecord {
        position: last.position,
        crc: crc32c::crc32c(json),
    };
    let copy_with = |last_record| {
        let copy = Bench::new();
        copy_log(bench.folder.path(), copy.folder.path(), before.position.0, None, Some(last_record))
    };
    let made = copy_with(last_record).unwrap();
    assert_eq!((made.bytes, made.records(tenant(1))), (bench.end(), receipts.len() as u64));
    let another = LastRecord {
        crc: last_record.crc ^ 1,
        ..last_record
    };
    let refused = copy_with(another).unwrap_err();
    assert!(matches!(refused, OpenError::PutBack { at } if at == last.position.0), "{refused}");
    // Its file is removed.
    fs::remove_file(bench.log_paths().pop().unwrap()).unwrap();
    assert!(copy_with(last_record).is_err());
    let refused = end_of_log(bench.folder.path(), Some(last_record)).unwrap_err();
    assert!(matches!(refused, OpenError::PutBack { at } if at == last.position.0), "{refused}");
    log.close().await;
}

#[tokio::test]
async fn a_copy_of_which_anything_is_missing_is_no_copy() {
    let (bench, log, _) = in_use(false).await;
    let names: Vec<String> = log_files(bench.folder.path()).unwrap().into_iter().map(|part| part.name).collect();
    let end = bench.end();
    log.close().await;
    for (number, name) in names.iter().enumerate() {
        let (copy, _) = copied(&bench, end);
        let path = copy.folder.path().join(name);
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        // Without the last file, the one before it ends like one that another follows.
        match read_copy(copy.folder.path()) {
            Err(OpenError::NotALog { .. } | OpenError::Missing { .. } | OpenError::LacksNext { .. }) => {}
            other => panic!("without file {number}: {other:?}"),
        }
        fs::write(&path, &whole[..whole.len() - 20]).unwrap();
        assert!(read_copy(copy.folder.path()).is_err(), "file {number} is shorter");
        let mut longer = whole.clone();
        *longer.last_mut().unwrap() ^= 1;
        fs::write(&path, longer).unwrap();
        assert!(read_copy(copy.folder.path()).is_err(), "the end of file {number} is another");
    }
}
