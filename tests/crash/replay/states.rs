//! The states in which a loss of power can leave a folder.
//!
//! What a sync made durable is there. Of the changes since, each may be lost or be there, whatever
//! became of the others, and a write may be there in part: a disk writes whole sectors only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::disk::{Change, Disk};
use super::history::{Event, History};
use crate::random::Random;

/// What a disk writes as a whole, in bytes.
const SECTOR: u64 = 512;
/// What a file system writes as a whole, in bytes.
const PAGE: u64 = 4096;
/// Random choices at each moment.
const RANDOM: usize = 6;
const ALL_LOST: &str = "all lost";

/// How many states are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Of the changes at each moment, some are lost alone, are there alone, or are torn.
    Short,
    /// Each.
    Long,
}

impl Form {
    /// As `CLAVIGER_TEST_REPLAY` says: the long one with `long`.
    pub fn of_environment() -> Self {
        match std::env::var("CLAVIGER_TEST_REPLAY").as_deref() {
            Err(_) | Ok("short") => Self::Short,
            Ok("long") => Self::Long,
            Ok(other) => panic!("CLAVIGER_TEST_REPLAY is {other}, not short or long"),
        }
    }

    /// The most changes of a moment that are lost alone.
    const fn singles(self) -> u64 {
        match self {
            Self::Short => 4,
            Self::Long => 64,
        }
    }
}

/// A state, and what was promised when it arose.
pub struct State {
    pub disk: Disk,
    /// How many responses had been sent.
    pub answered: usize,
    /// Whether a response was sent right before, and nothing more reached the disk than had to.
    pub strict: bool,
    /// How the state arose.
    pub story: String,
}

/// What becomes of a change that is not durable.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Lost,
    There,
    /// The bytes before this offset are there.
    Until(u64),
    /// The bytes from this offset on are there.
    From(u64),
    /// The file has its length, and zeros.
    Zeros,
}

/// A moment, and how much had been answered.
#[derive(Clone, Copy)]
struct Moment {
    line: usize,
    answered: usize,
    /// Right after a response.
    response: bool,
}

/// All states of a history, each once: with the most responses that it may follow. `answers` has
/// the line of each response, in their order.
pub fn all(history: &History, answers: &[usize], form: Form, seed: u64) -> Vec<State> {
    let mut found: BTreeMap<u64, State> = BTreeMap::new();
    let mut base = history.before.clone();
    let mut open: Vec<usize> = (0..history.events.len()).collect();
    for (number, moment) in moments(history, answers).into_iter().enumerate() {
        // What is durable is the base, up to the first change of the same node that is not.
        let mut waiting = BTreeSet::new();
        open.retain(|at| {
            let event = &history.events[*at];
            let node = event.change.node();
            let durable = event.durable.is_some_and(|line| line < moment.line);
            if durable && !waiting.contains(&node) {
                base.apply(&event.change);
                return false;
            }
            waiting.insert(node);
            true
        });
        let begun: Vec<&Event> = open
            .iter()
            .map(|at| &history.events[*at])
            .filter(|event| event.begin < moment.line)
            .collect();
        let mut random = Random::new(seed, number as u64);
        for (what, fates) in choices(&begun, moment, form, &mut random) {
            let mut disk = base.clone();
            for (event, fate) in begun.iter().zip(&fates) {
                apply(&mut disk, &event.change, *fate);
            }
            let story = || {
                let counts = format!(
                    "{} of {} changes",
                    fates.iter().filter(|fate| **fate != Fate::Lost).count(),
                    fates.len()
                );
                format!("line {}, {} answered, {what}: {counts}", moment.line, moment.answered)
            };
            let strict = moment.response && what == ALL_LOST;
            let state = found.entry(disk.hash()).or_insert_with(|| State {
                story: story(),
                answered: moment.answered,
                strict,
                disk: disk.clone(),
            });
            state.strict |= strict;
            if state.answered < moment.answered {
                state.answered = moment.answered;
                state.story = story();
            }
        }
    }
    found.into_values().collect()
}

/// Right before each sync takes effect, when most is not durable; right after each response, when
/// most is promised; and at the end.
fn moments(history: &History, answers: &[usize]) -> Vec<Moment> {
    let answered = |line: usize| answers.iter().filter(|answer| **answer < line).count();
    let at = |line: usize, response: bool| Moment {
        line,
        answered: answered(line),
        response,
    };
    let mut moments: Vec<Moment> = history.syncs.iter().map(|sync| at(sync.end, false)).collect();
    moments.extend(answers.iter().map(|line| at(line + 1, true)));
    moments.push(at(history.lines, true));
    moments.sort_by_key(|moment| moment.line);
    moments
}

fn is_durable(event: &Event, moment: Moment) -> bool {
    event.durable.is_some_and(|line| line < moment.line)
}

/// What may become of the changes that began before a moment.
fn choices(events: &[&Event], moment: Moment, form: Form, random: &mut Random) -> Vec<(&'static str, Vec<Fate>)> {
    let fixed: Vec<bool> = events.iter().map(|event| is_durable(event, moment)).collect();
    let loose: Vec<usize> = (0..events.len()).filter(|at| !fixed[*at]).collect();
    let of = |there: &dyn Fn(usize) -> Fate| -> Vec<Fate> {
        (0..events.len())
            .map(|at| if fixed[at] { Fate::There } else { there(at) })
            .collect()
    };
    let keep = |there: bool| if there { Fate::There } else { Fate::Lost };
    let mut all = vec![(ALL_LOST, of(&|_| Fate::Lost)), ("all there", of(&|_| Fate::There))];
    for (place, one) in loose.iter().enumerate() {
        // Of many changes some are chosen.
        if random.below(loose.len() as u64) >= form.singles() && place + 1 < loose.len() {
            continue;
        }
        all.push(("the first there", of(&|at| keep(at < *one))));
        all.push(("one lost", of(&|at| keep(at != *one))));
        all.push(("one there", of(&|at| keep(at == *one))));
        for torn in torn(&events[*one].change) {
            let last = |at: usize| if at == *one { torn } else { keep(at < *one) };
            all.push(("the first there, the last torn", of(&last)));
        }
    }
    if loose.len() > 1 {
        for _ in 0..RANDOM {
            let fates: Vec<Fate> = events.iter().map(|event| random_fate(&event.change, random)).collect();
            all.push(("some there", of(&|at| fates[at])));
        }
    }
    if moment.response {
        // A file system keeps names in their order, whatever becomes of contents.
        let names = |at: usize| matches!(events[at].change, Change::Names(_));
        all.push(("names alone", of(&|at| keep(names(at)))));
        all.push(("contents alone", of(&|at| keep(!names(at)))));
    }
    all
}

fn random_fate(change: &Change, random: &mut Random) -> Fate {
    let torn = torn(change);
    match random.below(5) {
        0 | 1 => Fate::Lost,
        2 if !torn.is_empty() => *random.pick(&torn).expect("one"),
        _ => Fate::There,
    }
}

/// The ways in which a write may be there in part.
fn torn(change: &Change) -> Vec<Fate> {
    let Change::Write { offset, bytes, .. } = change else {
        return Vec::new();
    };
    let end = offset + bytes.len() as u64;
    let inside = |at: u64| (*offset + 1..end).contains(&at).then_some(at);
    let middle = (offset + end) / 2;
    let mut places: Vec<u64> = [
        inside(offset.next_multiple_of(SECTOR)),
        inside(middle / SECTOR * SECTOR),
        inside(middle / PAGE * PAGE),
        inside((end - 1) / SECTOR * SECTOR),
        inside((end - 1) / PAGE * PAGE),
    ]
    .into_iter()
    .flatten()
    .collect();
    places.sort_unstable();
    places.dedup();
    let mut fates: Vec<Fate> = places.iter().flat_map(|at| [Fate::Until(*at), Fate::From(*at)]).collect();
    fates.push(Fate::Zeros);
    fates
}

fn apply(disk: &mut Disk, change: &Change, fate: Fate) {
    let part = match (change, fate) {
        (_, Fate::Lost) => return,
        (_, Fate::There) => return disk.apply(change),
        (Change::Write { file, offset, bytes }, fate) => {
            let inside = |at: u64| (at - offset) as usize;
            match fate {
                Fate::Until(at) => Change::Write {
                    file: *file,
                    offset: *offset,
                    bytes: Arc::from(&bytes[..inside(at)]),
                },
                Fate::From(at) => Change::Write {
                    file: *file,
                    offset: at,
                    bytes: Arc::from(&bytes[inside(at)..]),
                },
                _ => Change::Grow {
                    file: *file,
                    length: offset + bytes.len() as u64,
                },
            }
        }
        // Only a write is torn.
        (_, _) => return,
    };
    disk.apply(&part);
}
