//! The settings of the audit log.

use std::path::Path;
use std::time::Duration;

use super::super::audit::Audit;
use super::{MINIMAL, load, only_mistake};
use crate::audit::Keep;

fn audit(text: &str) -> Audit {
    load(&format!("{MINIMAL}{text}\n"), &[]).unwrap().audit
}

#[test]
fn the_audit_logs_durability_is_one_of_two_words() {
    for word in ["power-loss", "process-crash"] {
        let audit = load(MINIMAL, &[("CLAVIGER_AUDIT__DURABILITY", word)]).unwrap().audit;
        assert_eq!(audit.durability.as_str(), word);
    }
    let line = only_mistake(&format!("{MINIMAL}[audit]\ndurability = \"none\"\n"), &[]);
    assert!(line.contains("`audit.durability`") && line.contains("\"process-crash\""), "{line}");
}

#[test]
fn the_log_is_kept_as_a_whole_unless_a_limit_is_set() {
    assert_eq!(audit("").keep, None);
    let both = audit("[audit.keep]\nbytes = \"100GiB\"\nage = \"400d\"\n[audit.archive]\nfolder = \"/mnt/audit\"");
    let day = Duration::from_secs(24 * 60 * 60);
    let expected = Keep {
        bytes: Some(100 << 30),
        age: Some(400 * day),
        archive: Some(Path::new("/mnt/audit").to_owned()),
    };
    assert_eq!(both.keep, Some(expected));
    let by_variable = load(MINIMAL, &[("CLAVIGER_AUDIT__KEEP__AGE", "30d")]).unwrap().audit.keep;
    assert_eq!(by_variable.map(|keep| (keep.bytes, keep.age)), Some((None, Some(30 * day))));
    // The limits of a binary that is not for tests.
    assert_eq!((Keep::least_bytes(false), Keep::least_age(false)), (64 << 20, day));
}

#[test]
fn an_archive_needs_a_limit_and_a_limit_has_a_least_value() {
    let line = only_mistake(&format!("{MINIMAL}[audit.archive]\nfolder = \"/mnt/audit\"\n"), &[]);
    assert!(line.contains("nothing would be archived"), "{line}");
    for (setting, wrong) in [("bytes", "1B"), ("bytes", "all"), ("age", "1ms"), ("age", "forever")] {
        let line = only_mistake(&format!("{MINIMAL}[audit.keep]\n{setting} = \"{wrong}\"\n"), &[]);
        assert!(line.contains(&format!("`audit.keep.{setting}`")), "{line}");
    }
}
