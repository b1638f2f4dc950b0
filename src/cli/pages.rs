//! Fetches lists page by page.

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value};

use crate::client::{Call, Client, Failure};

/// Maximum number of items on a page of the API.
const MAX_PAGE: usize = 1000;

/// Which part of a list to fetch.
#[derive(Debug, Args)]
pub struct Paging {
    /// Maximum number of items
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Continue after an earlier list
    #[arg(long, value_name = "TOKEN")]
    page_token: Option<String>,
}

impl Paging {
    /// Fetches pages until the list ends or the limit is reached; a page may be empty. Returns a list like the API's:
    /// `items`, and `next_page_token` if there is more.
    pub(super) async fn fetch(&self, client: &Client, path: &[&str], query: &[(&'static str, &str)]) -> Result<Value, Failure> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let mut items: Vec<Value> = Vec::new();
        let mut next = self.page_token.clone();
        loop {
            let size = MAX_PAGE.min(limit - items.len());
            let mut call = Call::new(Method::GET, path).query("page_size", size.to_string());
            for (name, value) in query {
                call = call.query(name, *value);
            }
            if let Some(token) = &next {
                call = call.query("page_token", token);
            }
            let mut page = client.send(call).await?.body;
            let Some(Value::Array(mut new)) = page.get_mut("items").map(Value::take) else {
                return Err(Failure::Protocol("the response is not a list".to_owned()));
            };
            let token = page.get("next_page_token").and_then(Value::as_str).map(str::to_owned);
            if new.len() > size || (token.is_some() && token == next) {
                return Err(Failure::Protocol("the list's pages do not follow each other".to_owned()));
            }
            items.append(&mut new);
            next = token;
            if next.is_none() || items.len() >= limit {
                let mut list = Map::new();
                list.insert("items".to_owned(), items.into());
                list.insert("next_page_token".to_owned(), next.into());
                return Ok(list.into());
            }
        }
    }
}
