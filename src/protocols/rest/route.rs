//! One route of the router's table, and the bounds that routes name.

use std::time::Duration;

use http::Method;

use crate::access::Action;

/// The longest body of one operation, in bytes.
pub const DATA: usize = 64 << 10;
/// The longest body of a batch, in bytes.
pub const BATCH: usize = 16 << 20;
/// How long one operation may take, at most; the configuration may shorten it.
pub const REQUEST: Duration = Duration::from_secs(10);
/// How long a batch may take, at most.
pub const BATCH_TIME: Duration = Duration::from_secs(30);

/// One route of the API.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The method as text.
    pub method_name: &'static str,
    /// The path, in the form of the OpenAPI document.
    pub path: &'static str,
    /// Any of these actions opens the route; which one is needed in the end, the handler's
    /// permit says. The first is what is recorded unless it says otherwise.
    pub needs: &'static [Action],
    /// The longest body, in bytes.
    pub body: usize,
    /// The longest time.
    pub time: Duration,
}

impl Route {
    /// Whether its method has a body, which must be JSON.
    pub(super) fn takes_body(&self) -> bool {
        [Method::POST, Method::PATCH].contains(&self.method)
    }
}
