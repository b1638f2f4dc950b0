//! Lists and batches: items that come in several responses, one after the other.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::error::Result;

/// One part of the items, and where the rest comes from.
pub(crate) type Part<T> = (Vec<T>, Option<Box<dyn Source<T>>>);
pub(crate) type Fetched<T> = Pin<Box<dyn Future<Output = Result<Part<T>>> + Send>>;

/// Where items come from.
pub(crate) trait Source<T>: Send {
    /// Requests the next part.
    fn fetch(self: Box<Self>) -> Fetched<T>;
}

/// The items of all pages of a list, or the results of all requests of a batch. Nothing is requested before it is needed.
///
/// It is a [`Stream`], and has [`Items::next`] and [`Items::all`] for programs without a library of streams. After an error it
/// ends.
#[must_use = "nothing is requested before it is polled"]
pub struct Items<T> {
    ready: VecDeque<T>,
    rest: Rest<T>,
}

enum Rest<T> {
    Source(Box<dyn Source<T>>),
    UnderWay(Fetched<T>),
    Nothing,
}

impl<T> Items<T> {
    pub(crate) fn new(source: impl Source<T> + 'static) -> Self {
        Self {
            ready: VecDeque::new(),
            rest: Rest::Source(Box::new(source)),
        }
    }

    /// The next item; `None` at the end.
    ///
    /// # Errors
    /// Those of the request that the item comes from.
    pub async fn next(&mut self) -> Option<Result<T>> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// All items.
    ///
    /// # Errors
    /// That of the first request that fails.
    pub async fn all(mut self) -> Result<Vec<T>> {
        let mut all = Vec::new();
        while let Some(item) = self.next().await {
            all.push(item?);
        }
        Ok(all)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(item)));
            }
            match std::mem::replace(&mut self.rest, Rest::Nothing) {
                Rest::Nothing => return Poll::Ready(None),
                Rest::Source(source) => self.rest = Rest::UnderWay(source.fetch()),
                Rest::UnderWay(mut fetched) => match fetched.as_mut().poll(context) {
                    Poll::Pending => {
                        self.rest = Rest::UnderWay(fetched);
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(Ok((items, rest))) => {
                        self.ready = items.into();
                        self.rest = rest.map_or(Rest::Nothing, Rest::Source);
                    }
                },
            }
        }
    }
}

// Nothing in it refers to itself.
impl<T> Unpin for Items<T> {}

impl<T> Stream for Items<T> {
    type Item = Result<T>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        self.get_mut().poll(context)
    }
}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Items(...)")
    }
}
