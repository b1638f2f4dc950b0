//! One call of the API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::json::{Body, EnumStyle, camel_case};
use crate::refusal::Refusal;
use crate::service::Service;

/// An authenticated request: what each method of the API reads.
pub(crate) struct Call<'a> {
    pub(crate) service: &'a Arc<Service>,
    pub(crate) caller: &'a str,
    pub(crate) now: i64,
    pub(crate) style: EnumStyle,
    pub(crate) query: &'a BTreeMap<String, String>,
    pub(crate) body: &'a [u8],
}

impl Call<'_> {
    /// Fails unless the caller has this permission on the resource.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub(crate) fn demand(&self, permission: &str, resource: &str) -> Result<(), Refusal> {
        self.service.access.demand(self.caller, permission, resource)
    }

    /// The body, which may have these fields only.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a body that is no JSON object or has another field.
    pub(crate) fn fields(&self, allowed: &[&str]) -> Result<Body, Refusal> {
        Body::parse(self.body, allowed)
    }

    /// For how many seconds a disabled version still works.
    pub(crate) fn lag(&self) -> i64 {
        self.service.lag.load(Ordering::SeqCst)
    }

    /// The fields that `updateMask` lists, in lower camel case.
    pub(crate) fn mask(&self) -> Result<Vec<String>, Refusal> {
        let named = self.query.get("updateMask").or_else(|| self.query.get("update_mask"));
        let named = named.ok_or_else(|| Refusal::invalid("update_mask must be set."))?;
        Ok(named.trim_matches('"').split(',').map(camel_case).collect())
    }

    /// One page of a list: `pageSize` entries from `pageToken`, as the query gives them.
    pub(crate) fn page<T>(&self, field: &str, all: Vec<T>, show: impl Fn(T) -> Value) -> Result<Value, Refusal> {
        for unsupported in ["filter", "orderBy"] {
            if self.query.get(unsupported).is_some_and(|value| !value.is_empty()) {
                return Err(Refusal::unimplemented(unsupported));
            }
        }
        let number = |name: &str| match self.query.get(name).filter(|text| !text.is_empty()) {
            Some(text) => text
                .parse::<usize>()
                .map_err(|_| Refusal::invalid(format!("Invalid value at '{name}'."))),
            None => Ok(0),
        };
        let (size, start) = (number("pageSize")?, number("pageToken")?);
        let size = if size == 0 { 100 } else { size.min(1000) };
        let total = all.len();
        let entries: Vec<Value> = all.into_iter().skip(start).take(size).map(show).collect();
        let mut page = json!({"totalSize": total});
        if !entries.is_empty() {
            page[field] = Value::Array(entries);
        }
        if start + size < total {
            page["nextPageToken"] = (start + size).to_string().into();
        }
        Ok(page)
    }
}
