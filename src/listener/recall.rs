//! What a revocation recalls of the responses that were handed over before it: all that the peers do not have.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::connection_state::ConnectionState;
use super::room::Room;
use super::unwritten::{Id, Progress};

/// How long peers have to take the responses that a revocation finds on their way.
const PATIENCE: Duration = Duration::from_millis(250);
/// How soon it is looked again whether they did.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// The longest pause before another look.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
/// How many connections are looked at before other tasks have their turn.
const AT_ONCE: usize = 64;

/// The connections of all listeners that a gateway's revocations reach.
#[derive(Default)]
pub struct Recall(Mutex<Vec<Weak<Room>>>);

impl Recall {
    /// Reaches the connections of this room, too.
    pub(super) fn add(&self, room: &Arc<Room>) {
        self.0.lock().push(Arc::downgrade(room));
    }

    /// Returns once no byte leaves any more of the responses that were handed over and depend on what has this id.
    /// Nothing else that depends on it may be handed over: its gate is closed. A connection whose peer does not take
    /// such a response within 250 ms is reset, with all that it carries. Others are left alone.
    pub async fn depending_on(&self, id: &Id) {
        let rooms: Vec<Arc<Room>> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
        let mut waiting = Vec::new();
        for connections in rooms.iter().map(|room| room.connections()) {
            for some in connections.chunks(AT_ONCE) {
                waiting.extend(some.iter().filter_map(|connection| Waiting::of(connection, id)));
                yield_now().await;
            }
        }
        let until = Instant::now() + PATIENCE;
        let mut pause = LOOK_AGAIN;
        while !waiting.is_empty() {
            let is_last = Instant::now() >= until;
            // What was late itself may have looked long ago.
            waiting.retain_mut(|waiting| !waiting.has_arrived(id));
            if is_last {
                break;
            }
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
        for some in waiting.chunks(AT_ONCE) {
            some.iter().for_each(|waiting| waiting.connection.recall());
            yield_now().await;
        }
    }

    /// Returns once a revocation that was made earlier has recalled what depends on it, of which the id is not known
    /// any more: as late as it can be. It may have been stored a moment ago, and begin only now.
    pub async fn of_earlier(&self) {
        sleep(2 * PATIENCE).await;
    }
}

/// A connection with responses that may not have arrived.
struct Waiting {
    connection: Arc<ConnectionState>,
    /// Later responses were handed over after the revocation was undone.
    before: u64,
    /// The byte of the connection that was written last when the last of them was written.
    written: Option<u64>,
}

impl Waiting {
    fn of(connection: &Arc<ConnectionState>, id: &Id) -> Option<Self> {
        let mut waiting = Self {
            connection: Arc::clone(connection),
            before: connection.responses().next(),
            written: None,
        };
        (!waiting.has_arrived(id)).then_some(waiting)
    }

    fn has_arrived(&mut self, id: &Id) -> bool {
        let responses = self.connection.responses();
        let end = match responses.progress(id, self.before) {
            Progress::Arrived => return true,
            Progress::Unwritten => None,
            Progress::Written(end) => Some(end),
        };
        // Closed: nothing is sent any more.
        let Some(sent) = responses.sent() else { return true };
        end.is_some_and(|end| sent.acknowledged >= end.min(*self.written.get_or_insert(sent.written)))
    }
}
