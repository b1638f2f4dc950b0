//! Batches: many operations in one request, each with its own decision, outcome and record.

use std::future::Future;
use std::sync::Arc;

use futures::{StreamExt, stream};

use super::turns::Turns;
use super::{Broker, Failure, Guarded, RequestContext};

/// The most items in one batch.
pub const MAX_ITEMS: usize = 1000;
/// The most items of one batch that are under way at once.
const UNDER_WAY: usize = 64;

/// One item that ran: its operation and its outcome, to be concluded together with the others.
pub type BatchOutcome<T> = (RequestContext, Result<Guarded<T>, Failure>);

impl Broker {
    /// Runs `each` for every item, and gives back the outcomes in the order of the items. At most
    /// [`UNDER_WAY`] items run at once, of which the use cases let only some use one connection.
    ///
    /// # Errors
    /// `invalid_request` for a batch without items or with more than 1000, and for an operator
    /// who names no tenant.
    pub async fn batch<I, T, F, Fut>(&self, cx: &RequestContext, items: Vec<I>, each: F) -> Result<Vec<BatchOutcome<T>>, Failure>
    where
        I: Send,
        T: Send,
        F: Fn(RequestContext, I) -> Fut + Send,
        Fut: Future<Output = Result<Guarded<T>, Failure>> + Send,
    {
        cx.require_tenant()?;
        if items.is_empty() || items.len() > MAX_ITEMS {
            return Err(Failure::invalid("/items", "1 to 1000 items"));
        }
        let turns = Arc::<Turns>::default();
        let work = (0_u32..).zip(items).map(|(place, item)| {
            let cx = cx.item(place, Arc::clone(&turns));
            let outcome = each(cx.clone(), item);
            async move { (cx, outcome.await) }
        });
        Ok(stream::iter(work).buffered(UNDER_WAY).collect().await)
    }
}
