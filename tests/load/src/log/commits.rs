//! What a commit costs that overwrites zeros, as the log's do, beside one that makes its file longer.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::report::{median, quantile};
use crate::{Plan, report, usage};

/// Bytes of a commit: a record of a cached unwrap and its frame, about.
const COMMIT: usize = 500;
/// Length of the file of zeros: a segment of the greatest length.
const ZEROS: usize = 64 << 20;

const OVERWRITING: &str = "overwriting zeros";
const EXTENDING: &str = "extending the file";

/// What was measured of one way in one round.
struct Commits {
    /// Write and sync, in microseconds.
    waits: Histogram<u64>,
    /// CPU time of the thread, which does little beside system calls.
    thread: Duration,
    /// CPU time of the whole machine: on a quiet one, the kernel's own threads in addition.
    machine: Duration,
}

impl Commits {
    fn each(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.waits.len() as f64
    }
}

/// Commits in both ways in turn, each round in new files.
pub fn run(plan: &Plan, folder: &Path) {
    let time = Duration::from_secs(plan.seconds);
    let mut ways = [(OVERWRITING, Vec::new()), (EXTENDING, Vec::new())];
    for round in 0..plan.rounds {
        for (way, samples) in &mut ways {
            report::progress(round, way, 1);
            samples.push(commits(folder, *way == OVERWRITING, time));
        }
    }
    println!("\n### A commit of the audit log\n\nA write of {COMMIT} bytes and `fdatasync`, one after another.");
    println!("\n| way | p50 µs | p99 µs | CPU of the thread, µs | CPU of the machine, µs |\n|---|---|---|---|---|");
    for (way, samples) in &ways {
        let of = |of: &dyn Fn(&Commits) -> f64| median(samples.iter().map(of).collect());
        println!(
            "| {way} | {:.0} | {:.0} | {:.0} | {:.0} |",
            of(&|sample| quantile(&sample.waits, 0.5)),
            of(&|sample| quantile(&sample.waits, 0.99)),
            of(&|sample| sample.each(sample.thread)),
            of(&|sample| sample.each(sample.machine)),
        );
    }
}

fn commits(folder: &Path, overwriting: bool, time: Duration) -> Commits {
    let path = folder.join("commits");
    let file = File::create(&path).expect("a file");
    if overwriting {
        file.write_all_at(&vec![0; ZEROS], 0).expect("zeros");
        file.sync_all().expect("a sync");
    }
    let commit = [b'r'; COMMIT];
    let mut waits = Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds that hold");
    let (thread, machine) = (usage::of_thread(), usage::of_machine());
    let end = Instant::now() + time;
    let mut at = 0;
    while Instant::now() < end {
        let begun = Instant::now();
        file.write_all_at(&commit, at).expect("a write");
        file.sync_data().expect("a sync");
        waits.saturating_record(begun.elapsed().as_micros().try_into().unwrap_or(u64::MAX));
        at += COMMIT as u64;
        if overwriting && at as usize + COMMIT > ZEROS {
            at = 0;
        }
    }
    let sample = Commits {
        waits,
        thread: usage::of_thread() - thread,
        machine: usage::of_machine().saturating_sub(machine),
    };
    std::fs::remove_file(&path).expect("the file goes");
    sample
}
