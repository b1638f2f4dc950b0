//! `[egress]`: which hosts the gateway may connect to on behalf of a tenant.

use claviger_provider::egress::EgressPolicy;

use super::reader::Section;
use super::values::{Networks, Switch};

/// Reads the policy. Default: HTTPS to public addresses only.
pub(super) fn read(section: &mut Section<'_>) -> EgressPolicy {
    EgressPolicy {
        allow: section.setting_or("allow", &Networks, Vec::new()),
        allow_plain_http: section.setting_or("allow_plain_http", &Switch, false),
    }
}
