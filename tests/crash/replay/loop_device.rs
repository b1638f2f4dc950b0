//! Small file systems in a file, mounted through a loop device.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::{UnmountFlags, unmount};

/// As large as the smallest XFS, in bytes. The file has holes.
const SIZE: u64 = 320 << 20;

/// A mounted file system of its own.
pub struct LoopDevice {
    at: PathBuf,
    /// Has the image, too.
    _folder: tempfile::TempDir,
}

impl LoopDevice {
    /// Makes one of this kind. `None` without the right to mount it, or its tools.
    pub fn mount(kind: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let (image, at) = (folder.path().join("image"), folder.path().join("mounted"));
        File::create(&image).and_then(|file| file.set_len(SIZE)).expect("a file");
        std::fs::create_dir(&at).expect("a folder");
        let succeeds = |command: &mut Command| {
            let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
            quiet.status().is_ok_and(|status| status.success())
        };
        let made = succeeds(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image))
            && succeeds(Command::new("mount").args(["-t", kind, "-o", "loop"]).args([&image, &at]));
        made.then_some(Self { at, _folder: folder })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}
