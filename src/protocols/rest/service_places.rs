//! How many requests to the service endpoints are under way at once, on one listener: they need no
//! credential, so their bounds are of the source and of the listener.

use std::net::IpAddr;

use parking_lot::Mutex;

use super::service::ServicePage;
use crate::listener::{Source, Sources};

/// Requests under way on one listener.
const IN_ALL: u32 = 64;
/// Requests under way from one source. A probe and a scrape need one each.
const PER_SOURCE: u32 = 8;

/// The places of one listener.
pub(super) struct ServicePlaces(Mutex<UnderWay>);

struct UnderWay {
    in_all: u32,
    sources: Sources,
}

impl Default for ServicePlaces {
    fn default() -> Self {
        Self(Mutex::new(UnderWay {
            in_all: 0,
            sources: Sources::at_most(PER_SOURCE),
        }))
    }
}

impl ServicePlaces {
    /// A place for a request to this page; `None` if there is none left. `/healthz` needs none: it
    /// does no work, and a probe that is refused would have the process restarted.
    pub(super) fn enter(&self, page: ServicePage, source: impl FnOnce() -> IpAddr) -> Option<ServicePlace<'_>> {
        let source = match page {
            ServicePage::Health => None,
            ServicePage::Readiness(_) | ServicePage::Metrics | ServicePage::Document | ServicePage::Docs | ServicePage::DocsFile => {
                Some(Source::from(source()))
            }
        };
        if let Some(source) = source {
            let mut under_way = self.0.lock();
            if under_way.in_all >= IN_ALL || under_way.sources.is_full(source) {
                return None;
            }
            under_way.in_all += 1;
            under_way.sources.enter(source);
        }
        Some(ServicePlace { places: self, source })
    }
}

/// The place of a request, until it is dropped.
pub(super) struct ServicePlace<'p> {
    places: &'p ServicePlaces,
    source: Option<Source>,
}

impl Drop for ServicePlace<'_> {
    fn drop(&mut self) {
        if let Some(source) = self.source {
            let mut under_way = self.places.0.lock();
            under_way.in_all -= 1;
            under_way.sources.leave(source);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::super::readiness::Detail;
    use super::*;

    const READINESS: ServicePage = ServicePage::Readiness(Detail::Gateway);

    #[test]
    fn one_source_leaves_places_to_the_others_and_health_needs_none() {
        let places = ServicePlaces::default();
        let from = |last: u8| move || IpAddr::from([192, 0, 2, last]);
        let mut held: Vec<_> = (0..PER_SOURCE).map(|_| places.enter(READINESS, from(1)).unwrap()).collect();
        assert!(places.enter(READINESS, from(1)).is_none());
        assert!(places.enter(ServicePage::Health, from(1)).is_some());
        for source in 2..=8 {
            held.extend((0..PER_SOURCE).map(|_| places.enter(ServicePage::Metrics, from(source)).unwrap()));
        }
        assert!(places.enter(READINESS, from(9)).is_none(), "the listener is full");
        held.pop();
        assert!(places.enter(READINESS, from(9)).is_some());
        drop(held);
        assert_eq!(places.0.lock().in_all, 0);
    }
}
