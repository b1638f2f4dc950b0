//! The public ids of all tokens in memory, so that a flood of made-up tokens costs no reads.
//!
//! A set was chosen over a slow lane that all unknown ids share: a flood would fill the lane, and a
//! genuine token that is used for the first time would wait in it. With the set it does not: only
//! what is missing here is slow.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use sqlx::{SqlitePool, query_scalar};

use crate::store::StoreError;

/// Ids that one statement reads at the start.
const PIECE: usize = 4096;
/// How often a missing id is looked up in the store all the same, for all of them together: another
/// node may have made the token.
const LOOKED_UP_EVERY: Duration = Duration::from_millis(100);

/// The ids, as hashes under a random key: 8 bytes for each token, 10 to 20 with the room that a set
/// keeps free. An id that shares another's hash costs a read, and nothing else.
pub(super) struct TokenIds {
    hasher: RandomState,
    hashes: RwLock<HashSet<u64>>,
    /// When a missing id may be looked up next.
    next: Mutex<Instant>,
}

impl TokenIds {
    /// Reads those of the database.
    pub(super) async fn load(pool: &SqlitePool) -> Result<Self, StoreError> {
        let ids = Self {
            hasher: RandomState::new(),
            hashes: RwLock::default(),
            next: Mutex::new(Instant::now()),
        };
        let mut last = String::new();
        loop {
            let piece: Vec<String> = query_scalar("SELECT public_id FROM tokens WHERE public_id > ?1 ORDER BY public_id LIMIT ?2")
                .bind(&last)
                .bind(PIECE as i64)
                .fetch_all(pool)
                .await?;
            for id in &piece {
                ids.add(id);
            }
            match piece.into_iter().nth(PIECE - 1) {
                Some(end) => last = end,
                None => return Ok(ids),
            }
        }
    }

    /// Adds one. Call it before the token is committed.
    pub(super) fn add(&self, id: &str) {
        self.hashes.write().insert(self.hasher.hash_one(id));
    }

    /// Removes one, whose token the store does not have.
    pub(super) fn remove(&self, id: &str) {
        self.hashes.write().remove(&self.hasher.hash_one(id));
    }

    /// Whether the token may exist: it is known, or it is the turn of an unknown one.
    pub(super) fn may_exist(&self, id: &str) -> bool {
        self.hashes.read().contains(&self.hasher.hash_one(id)) || self.may_look_up(Instant::now())
    }

    fn may_look_up(&self, now: Instant) -> bool {
        let mut next = self.next.lock();
        let may = *next <= now;
        if may {
            *next = now + LOOKED_UP_EVERY;
        }
        may
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use sqlx::query;
    use sqlx::sqlite::SqlitePoolOptions;

    use super::*;

    /// A database in memory, which its one connection has.
    async fn database() -> SqlitePool {
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect("sqlite::memory:")
            .await
            .unwrap();
        query("CREATE TABLE tokens (public_id TEXT NOT NULL UNIQUE)")
            .execute(&pool)
            .await
            .unwrap();
        pool
    }

    #[tokio::test]
    async fn every_id_of_the_database_is_known_from_the_start() {
        let pool = database().await;
        // Pieces that end before, with and after an id.
        for many in [0, 1, PIECE - 1, PIECE, 2 * PIECE + 1] {
            query("DELETE FROM tokens").execute(&pool).await.unwrap();
            query("WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT ?1) INSERT INTO tokens SELECT 'id' || n FROM n WHERE ?1 > 0")
                .bind(many as i64)
                .execute(&pool)
                .await
                .unwrap();
            let ids = TokenIds::load(&pool).await.unwrap();
            assert_eq!(ids.hashes.read().len(), many);
            // The turn of an unknown one is over.
            ids.may_look_up(Instant::now());
            assert!((1..=many).all(|n| ids.may_exist(&format!("id{n}"))));
            assert!(!ids.may_exist("id0"));
        }
    }

    #[tokio::test]
    async fn unknown_ids_take_turns_and_known_ones_do_not() {
        let pool = database().await;
        let ids = TokenIds::load(&pool).await.unwrap();
        let now = Instant::now();
        assert!(ids.may_look_up(now));
        assert!(!ids.may_look_up(now));
        assert!(!ids.may_exist("new"));
        ids.add("new");
        assert!(ids.may_exist("new"));
        ids.remove("new");
        assert!(!ids.may_exist("new"));
        assert!(ids.may_look_up(now + LOOKED_UP_EVERY));
    }
}
