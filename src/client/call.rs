//! One API call, before it is sent.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde_json::Value;

use super::Failure;

/// An API call: method, path, query, headers and body.
pub struct Call {
    pub(super) method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Value>,
}

impl Call {
    /// Creates a call of `/v1/` and these path segments, which are percent-encoded as needed.
    pub fn new(method: Method, path: &[&str]) -> Self {
        let path = path.iter().map(|&segment| segment.to_owned()).collect();
        Self {
            method,
            path,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: None,
        }
    }

    /// Adds a query parameter.
    #[must_use]
    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Sets the JSON body.
    #[must_use]
    pub fn json(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Adds a header.
    ///
    /// # Errors
    /// [`Failure::Usage`] if the value is not valid in a header.
    pub fn header(mut self, name: HeaderName, value: &str) -> Result<Self, Failure> {
        let value = HeaderValue::from_str(value).map_err(|_| Failure::Usage(format!("{name} cannot have this value")))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    pub(super) fn url(&self, address: &Url) -> Result<Url, Failure> {
        // URL parsing drops these segments, so the call would address another resource.
        if self.path.iter().any(|segment| matches!(segment.as_str(), "" | "." | "..")) {
            return Err(Failure::Usage("a name is empty or consists of dots".to_owned()));
        }
        let mut url = address.clone();
        {
            let mut segments = url
                .path_segments_mut()
                .map_err(|()| Failure::Usage("the address has no path".to_owned()))?;
            segments.pop_if_empty().push("v1").extend(&self.path);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Ok(url)
    }
}
