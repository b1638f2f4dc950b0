//! A client that shows whole answers: status, headers and body.

use std::sync::Once;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::endpoint::{Endpoint, Version};

/// A caller of one gateway with one credential.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
    headers: HeaderMap,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON; null when there is none.
    pub body: Value,
    /// The body as it came.
    pub text: String,
}

impl Client {
    /// With this token; `tenant` for an operator who acts for one.
    pub fn new(endpoint: impl Into<Endpoint>, token: &str, tenant: Option<&str>) -> Self {
        static STACK: Once = Once::new();
        STACK.call_once(|| drop(rustls::crypto::aws_lc_rs::default_provider().install_default()));
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).expect("a token"));
        if let Some(tenant) = tenant {
            headers.insert("claviger-tenant", HeaderValue::from_str(tenant).expect("a name"));
        }
        let endpoint = endpoint.into();
        if let Some((name, client)) = endpoint.forwarded() {
            headers.insert(name, HeaderValue::from_str(client).expect("an address"));
        }
        Self {
            http: endpoint.http(),
            endpoint,
            headers,
        }
    }

    /// The same with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self::new(&self.endpoint, token, None)
    }

    /// The same from elsewhere, on connections of its own.
    #[must_use]
    pub fn at(&self, endpoint: &Endpoint) -> Self {
        let mut moved = Self::new(endpoint, "", None);
        for name in ["authorization", "claviger-tenant"] {
            if let Some(value) = self.headers.get(name) {
                moved.headers.insert(name, value.clone());
            }
        }
        moved
    }

    /// The same over this version of HTTP, on connections of its own.
    #[must_use]
    pub fn over(&self, version: Version) -> Self {
        let endpoint = self.endpoint.clone().over(version);
        Self {
            http: endpoint.http(),
            endpoint,
            headers: self.headers.clone(),
        }
    }

    /// The same with one more header on every request.
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).expect("a header's value"),
        );
        self
    }

    /// The same without a header.
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// A request to be completed.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.endpoint.url(path)).headers(self.headers.clone())
    }

    /// Sends a request.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        Answer::of(request.send().await.expect("an answer")).await
    }

    /// Sends a request to a gateway that may be killed meanwhile: `None` where no whole answer came.
    pub async fn try_send(&self, request: RequestBuilder) -> Option<Answer> {
        Answer::try_of(request.send().await.ok()?).await
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// Every item of a list, page after page.
    pub async fn list(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut next = Some(format!("{path}?page_size=1000"));
        while let Some(page) = next {
            let page = self.get(&page).await.expect_status(200);
            items.extend(page["items"].as_array().expect("a list").iter().cloned());
            next = page["next_page_token"]
                .as_str()
                .map(|token| format!("{path}?page_size=1000&page_token={token}"));
        }
        items
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// POST without a body.
    pub async fn post_empty(&self, path: &str) -> Answer {
        self.send(self.request(Method::POST, path)).await
    }

    /// POST of these bytes as JSON.
    pub async fn post_raw(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.send(
            self.request(Method::POST, path)
                .header("content-type", "application/json")
                .body(body.into()),
        )
        .await
    }

    /// PATCH of JSON with an etag.
    pub async fn patch(&self, path: &str, etag: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PATCH, path).header("if-match", etag).json(body))
            .await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }
}

impl Answer {
    /// Reads a response whole.
    pub async fn of(response: reqwest::Response) -> Self {
        Self::try_of(response).await.expect("a whole body")
    }

    async fn try_of(response: reqwest::Response) -> Option<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.ok()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Some(Self {
            status,
            headers,
            body,
            text,
        })
    }

    /// Stops the test unless the status is this one; answers the body.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }

    /// Stops the test unless this is a problem of this status and code, complete in every
    /// member that the contract names; answers the body.
    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("cache-control"), "no-store");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["request_id"].as_str(), Some(self.header("x-request-id")));
        for member in ["type", "title", "detail"] {
            assert!(
                self.body[member].as_str().is_some_and(|text| !text.is_empty()),
                "{member}: {}",
                self.text
            );
        }
        assert!(self.body["retryable"].is_boolean(), "{}", self.text);
        self.body
    }

    /// A header as text; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}
