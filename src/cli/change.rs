//! What changes of different objects have in common: labels, and the etag.

use clap::Args;
use reqwest::Method;
use reqwest::header::IF_MATCH;
use serde_json::{Map, Value, json};

use super::input;
use crate::client::{Call, Client, Failure};

/// Labels, all of them.
#[derive(Debug, Args)]
pub struct Labels {
    /// A label; again for more. All labels are set together
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = input::pair)]
    labels: Vec<(String, String)>,
}

impl Labels {
    /// Adds `labels` to a body, unless there are none.
    pub(super) fn add_to(&self, body: &mut Map<String, Value>) -> Result<(), Failure> {
        if !self.labels.is_empty() {
            body.insert("labels".to_owned(), input::pairs(&self.labels)?);
        }
        Ok(())
    }
}

/// How an object is changed.
#[derive(Debug, Args)]
pub struct Change {
    /// Take all labels away
    #[arg(long, conflicts_with = "labels")]
    no_labels: bool,
    /// Change it only if its etag is still this one; nothing: the one it has now
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
}

impl Change {
    /// The call that changes what is in the body; `options` names what could be.
    pub(super) async fn call(&self, client: &Client, path: &[&str], mut body: Map<String, Value>, options: &str) -> Result<Call, Failure> {
        if self.no_labels {
            body.insert("labels".to_owned(), json!({}));
        }
        if body.is_empty() {
            return Err(Failure::Usage(format!("nothing to change: {options}")));
        }
        let etag = match &self.etag {
            Some(etag) => etag.clone(),
            None => {
                let now = client.send(Call::new(Method::GET, path)).await?;
                now.etag.ok_or_else(|| Failure::Protocol("the object has no etag".to_owned()))?
            }
        };
        Call::new(Method::PATCH, path).json(body.into()).header(IF_MATCH, &etag)
    }
}
