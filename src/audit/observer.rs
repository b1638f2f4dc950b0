//! Observers of commits: what is built from the log sees durable records only.

use claviger_provider::TenantId;

use super::batch::{Batch, Encoded};
use super::origin::Position;

/// Is called with every commit, in the order of the file, after the commit was synced.
///
/// The calls are made by the log's own thread, after the waiting callers got their receipts.
/// They delay the next commit, so an observer must not block; it must not panic either, which
/// would end the log. Frames that a failed sync refused are never seen. After a restart an
/// observer sees new commits only, and reads earlier ones from the file.
pub trait CommitObserver: Send {
    /// The commit is durable.
    fn committed(&mut self, commit: &Commit<'_>);
}

/// All frames that one sync made durable: at least one.
pub struct Commit<'a> {
    batch: &'a Batch,
}

/// A durable frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommittedFrame<'a> {
    /// The tenant whose sequence the record is part of.
    pub tenant: TenantId,
    /// The record's number in the tenant's log on this node.
    pub sequence: u64,
    /// The frame's offset in the file.
    pub position: Position,
    /// The record, as canonical JSON.
    pub json: &'a [u8],
    /// The CRC-32C of `json`, as in the frame.
    pub crc: u32,
}

impl<'a> Commit<'a> {
    pub(super) fn new(batch: &'a Batch) -> Self {
        Self { batch }
    }

    /// The frames, in the order of the file.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = CommittedFrame<'a>> {
        self.batch.frames().iter().map(|frame| self.frame(frame))
    }

    /// The last of the frames.
    pub fn last_frame(&self) -> Option<CommittedFrame<'a>> {
        self.batch.frames().last().map(|frame| self.frame(frame))
    }

    fn frame(&self, frame: &Encoded) -> CommittedFrame<'a> {
        CommittedFrame {
            tenant: frame.about.tenant,
            sequence: frame.number,
            position: self.batch.position(frame),
            json: self.batch.json(frame),
            crc: self.batch.crc(frame),
        }
    }

    /// The length of the frames in the file, in bytes.
    pub fn bytes(&self) -> usize {
        self.batch.len()
    }
}

/// Counts commits, records and bytes for `/metrics`. Each is looked up in the registry once,
/// because every request has a commit.
pub struct CommitMetrics {
    commit_records: metrics::Histogram,
    records: metrics::Counter,
    bytes: metrics::Counter,
}

impl CommitMetrics {
    /// Counts with the recorder that is installed now.
    pub fn new() -> Self {
        Self {
            commit_records: metrics::histogram!("claviger_audit_commit_records"),
            records: metrics::counter!("claviger_audit_records_total"),
            bytes: metrics::counter!("claviger_audit_bytes_total"),
        }
    }
}

impl Default for CommitMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl CommitObserver for CommitMetrics {
    fn committed(&mut self, commit: &Commit<'_>) {
        let records = commit.frames().len();
        self.commit_records.record(records as f64);
        self.records.increment(records as u64);
        self.bytes.increment(commit.bytes() as u64);
    }
}
