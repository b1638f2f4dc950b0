//! Batches: cut to what a request takes, and the results of their items.

use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde_json::value::RawValue;

use crate::call::{Call, Pending};
use crate::client::Client;
use crate::encode::{Encode, Writer};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::items::{Fetched, Items, Source};
use crate::models::{ErrorCode, FailedItem};
use crate::response::{FromResponse, Mismatch, object};
use crate::transport::Incoming;

const BEGIN: &[u8] = b"{\"items\":[";
const END: &[u8] = b"]}";

/// The result of an item of a batch.
pub type ItemResult<T> = Result<T, FailedItem>;

/// A batch of any number of items. Awaiting it gives the results in the order of the items.
///
/// Items are sent in as many requests as needed, one after the other, each with the client's time. If one of these fails as a
/// whole, its error is that of the batch; use [`Batch::results`] to keep the results of those before it.
#[derive(Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Batch<I, R> {
    client: Client,
    endpoint: &'static Endpoint,
    items: Vec<I>,
    results: PhantomData<fn() -> R>,
}

impl<I, R> Batch<I, R>
where
    I: Encode + Send + 'static,
    R: DeserializeOwned + Send + 'static,
{
    pub(crate) fn new(client: &Client, endpoint: &'static Endpoint, items: impl IntoIterator<Item = I>) -> Self {
        Self {
            client: client.clone(),
            endpoint,
            items: items.into_iter().collect(),
            results: PhantomData,
        }
    }

    /// The results as they come. A request is sent when its first result is needed.
    pub fn results(self) -> Items<ItemResult<R>> {
        Items::new(Parts {
            call: Call::new(&self.client, self.endpoint, &[]),
            items: self.items.into_iter(),
            held: None,
            results: PhantomData,
        })
    }
}

impl<I, R> IntoFuture for Batch<I, R>
where
    I: Encode + Send + 'static,
    R: DeserializeOwned + Send + 'static,
{
    type Output = Result<Vec<ItemResult<R>>, Error>;
    type IntoFuture = Pending<Vec<ItemResult<R>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.results().all())
    }
}

struct Parts<I, R> {
    call: Call,
    items: std::vec::IntoIter<I>,
    /// The text of an item that the last request had no space for.
    held: Option<Writer>,
    results: PhantomData<fn() -> R>,
}

impl<I: Encode, R> Parts<I, R> {
    /// The body of the next request, and the number of items in it. An item that is too large by itself has a request of its
    /// own, so that the gateway says so.
    fn cut(&mut self) -> (Writer, usize) {
        let (most_items, most_bytes) = self.call.endpoint.limits.unwrap_or((usize::MAX, usize::MAX));
        let mut body = Writer::default();
        body.push(BEGIN);
        let mut count = 0;
        while let Some(text) = self.held.take().or_else(|| self.items.next().map(|item| encoded(&item))) {
            if count > 0 && (count == most_items || body.len() + 1 + text.len() + END.len() > most_bytes) {
                self.held = Some(text);
                break;
            }
            if count > 0 {
                body.push(b",");
            }
            body.push(text.bytes());
            count += 1;
        }
        body.push(END);
        (body, count)
    }

    fn is_done(&self) -> bool {
        self.held.is_none() && self.items.as_slice().is_empty()
    }
}

fn encoded(item: &impl Encode) -> Writer {
    let mut text = Writer::default();
    item.encode(&mut text);
    text
}

impl<I, R> Source<ItemResult<R>> for Parts<I, R>
where
    I: Encode + Send + 'static,
    R: DeserializeOwned + Send + 'static,
{
    fn fetch(mut self: Box<Self>) -> Fetched<ItemResult<R>> {
        Box::pin(async move {
            if self.is_done() {
                return Ok((Vec::new(), None));
            }
            let (body, count) = self.cut();
            let results: Results<R> = self.call.clone().with_body(body.finish()).send().await?;
            if results.items.len() != count {
                // Results would be taken for those of other items.
                let detail = "The response to a batch has not one result for each item.";
                return Err(Error::new(ErrorCode::UnexpectedResponse, "Unexpected response", detail)
                    .what_to_do_is("Check that this release of the client goes with the gateway.")
                    .with(|parts| parts.maybe_executed = true));
            }
            let rest = (!self.is_done()).then_some(self as Box<dyn Source<ItemResult<R>>>);
            Ok((results.items.into_iter().map(|item| item.0).collect(), rest))
        })
    }
}

#[derive(serde::Deserialize)]
#[serde(bound = "R: DeserializeOwned")]
struct Results<R> {
    items: Vec<One<R>>,
}

impl<R: DeserializeOwned> FromResponse for Results<R> {
    fn from_response(response: &Incoming) -> Result<Self, Mismatch> {
        object(response)
    }
}

struct One<R>(ItemResult<R>);

/// What decides which of both it is.
#[derive(serde::Deserialize)]
struct Probe {
    error: Option<serde::de::IgnoredAny>,
}

impl<'de, R: DeserializeOwned> serde::Deserialize<'de> for One<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A part of the response's own buffer. An untagged enumeration would make copies of the plaintext.
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let is_failed = serde_json::from_str::<Probe>(text).is_ok_and(|probe| probe.error.is_some());
        let made = match is_failed {
            true => serde_json::from_str(text).map(Err),
            false => serde_json::from_str(text).map(Ok),
        };
        // The text of serde's error repeats values.
        made.map(One).map_err(|_| D::Error::custom("not the result of an item"))
    }
}
