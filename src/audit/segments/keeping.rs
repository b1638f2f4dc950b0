//! The files that are removed from the beginning of the log, and their copies in the archive.

use std::path::{Path, PathBuf};

use super::{Segment, Segments};

impl Segments {
    /// The position of the first byte of each file, and the position behind the last closed one.
    pub(in crate::audit) fn starts(&self) -> Vec<u64> {
        self.closed.iter().chain([&self.last]).map(|segment| segment.start).collect()
    }

    /// The path of the file that begins at that position, and the length of its contents; `None` of the
    /// last one, or if there is none.
    pub(in crate::audit) fn closed_file(&self, start: u64) -> Option<(PathBuf, u64)> {
        let mut closed = self.closed();
        let found = closed.find(|(segment, _)| segment.start == start);
        found.map(|(segment, end)| (self.path(segment), end - start))
    }

    /// Goes on without the closed files that end at that position or before it. Returns their paths, the
    /// oldest first.
    pub(in crate::audit) fn forget_before(&mut self, position: u64) -> Vec<PathBuf> {
        let gone = self.closed().take_while(|(_, end)| *end <= position).count();
        let paths = self.closed.iter().take(gone).map(|segment| self.path(segment)).collect();
        self.closed.drain(..gone);
        paths
    }

    /// The name of the file that begins at that position.
    pub(in crate::audit) fn name_of(&self, position: u64) -> String {
        let mut segments = self.closed.iter().chain([&self.last]);
        let found = segments.find(|segment| segment.start == position);
        found.map_or_else(|| Self::name_at(position), Segment::name)
    }

    /// The name of the file that begins at that position, if it is of this release.
    pub(in crate::audit) fn name_at(position: u64) -> String {
        Segment::at(position).name()
    }

    /// The folder of the log.
    pub(in crate::audit) fn folder(&self) -> &Path {
        &self.folder
    }
}
