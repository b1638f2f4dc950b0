//! What all `update` commands share: labels, and the etag.

use clap::Args;
use reqwest::Method;
use reqwest::header::IF_MATCH;
use serde_json::{Map, Value, json};

use super::input;
use crate::client::{Call, Client, Failure};

/// The labels of an object.
#[derive(Debug, Args)]
pub struct Labels {
    /// Label; repeatable. Replaces all labels
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = input::pair)]
    labels: Vec<(String, String)>,
}

impl Labels {
    /// Adds `labels` to a body, if there are any.
    pub(super) fn add_to(&self, body: &mut Map<String, Value>) -> Result<(), Failure> {
        if !self.labels.is_empty() {
            body.insert("labels".to_owned(), input::pairs(&self.labels)?);
        }
        Ok(())
    }
}

/// Arguments of every `update` command.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Remove all labels
    #[arg(long, conflicts_with = "labels")]
    no_labels: bool,
    /// Update only if the etag is still this one [default: the current one]
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
}

impl UpdateArgs {
    /// Returns the call that updates the members of the body. `options` lists the options of the
    /// command, for the message about an empty body.
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
