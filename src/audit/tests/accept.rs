//! Lost files of a log whose loss cannot be marked at once: each is marked and recorded, or still missing for the next
//! start.

use std::fs;

use super::segments::{accepting, closed, path_of, small, starts};
use super::*;

/// The lost parts that records of the log report. The log must be whole but for what is marked.
fn reported(bench: &Bench) -> Vec<Lost> {
    bench.records().iter().filter_map(|(_, record)| record.lost()).collect()
}

/// A log of several files, whose sidecar is of its last one, with 100 records of tenant 1; or with three more, after a
/// crash.
async fn stopped(clean: bool) -> (Bench, u64) {
    let (bench, _) = closed().await;
    if clean {
        return (bench, 100);
    }
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    assert_eq!(segments::unwraps(&log, 3).await, 3);
    (bench.crashed(), 103)
}

#[tokio::test]
async fn a_start_that_accepts_a_loss_and_ends_at_any_step_leaves_no_silent_one() {
    for (clean, is_last) in [(true, false), (false, false), (true, true), (false, true)] {
        for failing in [None, Some(io::ErrorKind::StorageFull)] {
            for step in 1.. {
                let (bench, next) = stopped(clean).await;
                let starts = starts(&bench);
                let gone = if is_last { *starts.last().unwrap() } else { starts[1] };
                fs::remove_file(path_of(&bench, gone)).unwrap();
                bench.disk.set(|disk| match failing {
                    None => disk.killed_at = Some(disk.steps + step - 1),
                    Some(kind) => disk.failing_step = Some((disk.steps + step, kind)),
                });
                let begun = bench.disk.get(|disk| disk.steps);
                if let Ok(Recovered { log, .. }) = bench.try_open(accepting()) {
                    log.close().await;
                }
                let is_whole = bench.disk.get(|disk| disk.steps < begun + step);
                bench.disk.set(|disk| (disk.killed_at, disk.failing_step) = (None, None));

                let case = format!("clean: {clean}, last: {is_last}, failing: {failing:?}, step {step}");
                let Recovered { log, .. } = match bench.try_open(small()) {
                    Ok(opened) => opened,
                    // Not marked yet.
                    Err(_) => bench.try_open(accepting()).unwrap_or_else(|error| panic!("{case}: {error}")),
                };
                let given = unwrap_once(&log, tenant(1)).await.unwrap().sequence;
                // After a crash nothing tells how many records a lost last file had.
                let may_jump = is_last && !clean;
                assert!(given == next || may_jump && given > next, "{case}: {given}");
                log.close().await;
                let [lost] = reported(&bench)[..] else {
                    panic!("{case}: {:?}", reported(&bench))
                };
                assert!(lost.from.get() <= gone + 100 && gone < lost.to.get(), "{case}: {lost:?}");
                if is_whole {
                    assert!(step > 5, "{case}: too few steps");
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_marked_on_a_full_disk_is_missing_for_the_next_start() {
    for keep in [0, 2000] {
        let (bench, starts) = closed().await;
        let Recovered { log, .. } = bench.try_open(small()).unwrap();
        bench
            .disk
            .set(|disk| (disk.failing_replaces, disk.failing_syncs) = (true, usize::MAX));
        let cut = File::options().write(true).open(path_of(&bench, starts[1])).unwrap();
        cut.set_len(keep).unwrap();
        // It tries to bring back the file once more.
        log.close().await;
        bench.disk.set(|disk| (disk.failing_replaces, disk.failing_syncs) = (false, 0));
        let refused = bench.try_open(small()).map(drop).unwrap_err();
        assert!(matches!(refused, OpenError::Missing { .. }), "{refused}");
        let Recovered { log, .. } = bench.try_open(accepting()).unwrap();
        assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap().sequence, 100);
        log.close().await;
        assert_eq!(reported(&bench).len(), 1);
    }
}

#[tokio::test]
async fn a_middle_file_without_its_first_line_is_named() {
    let (bench, starts) = closed().await;
    let path = path_of(&bench, starts[1]);
    let whole = fs::read(&path).unwrap();
    let another = frame::header(&bench.origin, starts[2]);
    for line in [&b"#"[..], &[0; 100], b"a text in its place", another.as_bytes()] {
        let mut damaged = whole.clone();
        damaged[..line.len()].copy_from_slice(line);
        fs::write(&path, &damaged).unwrap();
        let refused = bench.try_open(small()).map(drop).unwrap_err();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(matches!(&refused, OpenError::NotALog { file, .. } if file == name), "{refused}");
    }
    let other = Origin {
        node: "n2".parse().unwrap(),
        ..bench.origin.clone()
    };
    let line = frame::header(&other, starts[1]);
    fs::write(&path, [line.as_bytes(), &whole[line.len()..]].concat()).unwrap();
    let refused = bench.try_open(small()).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
}
