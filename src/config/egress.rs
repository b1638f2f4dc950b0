//! `[egress]`: where the gateway goes on a tenant's behalf.

use claviger_provider::egress::EgressPolicy;

use super::reader::Section;
use super::values::{Networks, Switch};

/// Nothing but HTTPS to public addresses unless the operator says so.
pub(super) fn read(section: &mut Section<'_>) -> EgressPolicy {
    EgressPolicy {
        allow: section.setting_or("allow", &Networks, Vec::new()),
        allow_plain_http: section.setting_or("allow_plain_http", &Switch, false),
    }
}
