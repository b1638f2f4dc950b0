//! The pages of lists.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use crate::call::Call;
use crate::items::{Fetched, Items, Source};
use crate::response::{FromResponse, Mismatch, object};
use crate::transport::Incoming;

#[derive(serde::Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next_page_token: Option<String>,
}

impl<T: DeserializeOwned> FromResponse for Page<T> {
    fn from_response(response: &Incoming) -> Result<Self, Mismatch> {
        object(response)
    }
}

struct Pages<T> {
    call: Call,
    items: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + Send + 'static> Source<T> for Pages<T> {
    fn fetch(mut self: Box<Self>) -> Fetched<T> {
        Box::pin(async move {
            let page: Page<T> = self.call.clone().send().await?;
            let rest = page.next_page_token.filter(|token| !token.is_empty()).map(|token| {
                self.call.query("page_token", token);
                self as Box<dyn Source<T>>
            });
            Ok((page.items, rest))
        })
    }
}

/// All pages of a list.
pub(crate) fn pages<T: DeserializeOwned + Send + 'static>(call: Call) -> Items<T> {
    Items::new(Pages { call, items: PhantomData })
}
