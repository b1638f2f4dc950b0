//! What a process and the machine use, from /proc.

use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};

/// CPU times at one moment or between two, and memory at the later one.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Of the server.
    pub server: Duration,
    /// Of this program.
    pub generator: Duration,
    /// Of everything on the machine, both included.
    pub machine: Duration,
    /// The server's resident memory in bytes.
    pub resident: u64,
}

impl Usage {
    /// From then to now.
    pub fn since(&self, then: &Self) -> Self {
        Self {
            server: self.server.saturating_sub(then.server),
            generator: self.generator.saturating_sub(then.generator),
            machine: self.machine.saturating_sub(then.machine),
            resident: self.resident,
        }
    }
}

/// What was used so far.
pub fn now(server: u32) -> Usage {
    let memory = std::fs::read_to_string(format!("/proc/{server}/statm")).expect("the server runs");
    let pages: u64 = memory.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("statm");
    Usage {
        server: of_process(&server.to_string()),
        generator: of_process("self"),
        machine: of_machine(),
        resident: pages * page_size() as u64,
    }
}

fn of_process(pid: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name in parentheses may hold anything; times are the 12th and 13th word behind it.
    let (_, rest) = stat.rsplit_once(") ").expect("stat");
    ticks(rest.split(' ').skip(11).take(2))
}

/// Of everything on the machine.
pub fn of_machine() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").expect("a Linux system");
    let line = stat.lines().next().expect("stat");
    // user nice system idle iowait irq softirq steal
    let fields: Vec<&str> = line.split_whitespace().skip(1).collect();
    ticks([0, 1, 2, 5, 6].into_iter().map(|at| fields[at]))
}

/// Of this thread, to the nanosecond.
pub fn of_thread() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

fn ticks<'a>(words: impl Iterator<Item = &'a str>) -> Duration {
    let ticks: u64 = words.map(|word| word.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 1000 / clock_ticks_per_second())
}
