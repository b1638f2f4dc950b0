//! Lists, page after page.

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value};

use crate::client::{Call, Client, Failure};

/// The most items that the API puts on one page.
const PAGE: usize = 1000;

/// How much of a list is wanted.
#[derive(Debug, Args)]
pub struct Paging {
    /// At most so many items
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Go on where an earlier list ended
    #[arg(long, value_name = "TOKEN")]
    page_token: Option<String>,
}

impl Paging {
    /// Fetches pages until the list ends or the limit is reached. Answers in the API's own
    /// form: `items` and, when there is more, `next_page_token`.
    pub(super) async fn fetch(&self, client: &Client, path: &[&str], query: &[(&'static str, &str)]) -> Result<Value, Failure> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let mut items: Vec<Value> = Vec::new();
        let mut next = self.page_token.clone();
        loop {
            let size = PAGE.min(limit - items.len());
            let mut call = Call::new(Method::GET, path).query("page_size", size.to_string());
            for (name, value) in query {
                call = call.query(name, *value);
            }
            if let Some(token) = &next {
                call = call.query("page_token", token);
            }
            let mut page = client.send(call).await?.body;
            let Some(Value::Array(mut new)) = page.get_mut("items").map(Value::take) else {
                return Err(Failure::Protocol("the answer is not a list".to_owned()));
            };
            let token = page.get("next_page_token").and_then(Value::as_str).map(str::to_owned);
            if new.len() > size || (token.is_some() && (new.is_empty() || token == next)) {
                return Err(Failure::Protocol("the list's pages do not follow each other".to_owned()));
            }
            items.append(&mut new);
            next = token;
            if next.is_none() || items.len() >= limit {
                let mut answer = Map::new();
                answer.insert("items".to_owned(), items.into());
                answer.insert("next_page_token".to_owned(), next.into());
                return Ok(answer.into());
            }
        }
    }
}
