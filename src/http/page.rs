//! Pages of lists: how many rows, and the cursor of the next page.

use std::fmt::Display;

use super::ApiError;

/// Maximum number of rows of a page.
const MAX_ROWS: u8 = 200;
/// Rows of a page whose request names no limit.
pub(super) const DEFAULT_ROWS: u8 = 50;

/// The limit of a request, which must be between 1 and [`MAX_ROWS`].
pub(super) fn checked_limit<N>(limit: Option<N>, default: N) -> Result<N, ApiError>
where
    N: PartialOrd + From<u8> + Display,
{
    let limit = limit.unwrap_or(default);
    if (N::from(1)..=N::from(MAX_ROWS)).contains(&limit) {
        Ok(limit)
    } else {
        Err(ApiError::invalid("limit", format!("must be between 1 and {MAX_ROWS}")))
    }
}

/// Keeps the first `limit` rows. Returns the cursor of the last one if there were more.
pub(super) fn cut<T, C>(rows: &mut Vec<T>, limit: usize, cursor: impl FnOnce(&T) -> C) -> Option<C> {
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    rows.last().filter(|_| has_more).map(cursor)
}
