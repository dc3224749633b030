//! Deciding filters for values.
//!
//! In memory only where that is to the letter what PostgreSQL answers: equality of canonical texts, order of
//! numbers, times and bytes, `like`. What depends on a collation, a regular expression or an exotic type is
//! PostgreSQL's to decide: [`Verdict::Ask`].

use std::cmp::Ordering;

use super::Operator;
use crate::channels::postgres_changes::types::TypeKind;

/// What a filter says of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterResult {
    /// It holds.
    Matches,
    /// It does not, or is unknown.
    NoMatch,
    /// Only PostgreSQL knows.
    NeedsDatabase,
}

/// A filter made ready for columns of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predicate {
    operator: Operator,
    negated: bool,
    kind: TypeKind,
    /// The other side as the type's output function writes it; a list for `in`; null only within a list.
    canonical: Vec<Option<String>>,
}

impl Predicate {
    /// A test of columns whose type is of a kind, against canonical values: one, or a list for `in`.
    #[must_use]
    pub const fn new(
        operator: Operator,
        negated: bool,
        kind: TypeKind,
        canonical: Vec<Option<String>>,
    ) -> Self {
        Self { operator, negated, kind, canonical }
    }

    /// What it says of a value, null for NULL, in the text of the type's output function.
    #[must_use]
    pub fn evaluate(&self, value: Option<&str>) -> FilterResult {
        match self.operator {
            Operator::Is => self.evaluate_is(value),
            Operator::IsDistinct => {
                let distinct = match (value, self.single_value()) {
                    (None, None) => Some(false),
                    (None, Some(_)) | (Some(_), None) => Some(true),
                    (Some(value), Some(other)) => self.equal(value, other).map(|equal| !equal),
                };
                self.result(distinct)
            }
            _ => value.map_or(FilterResult::NoMatch, |value| self.evaluate_non_null(value)),
        }
    }

    fn evaluate_non_null(&self, value: &str) -> FilterResult {
        if self.operator == Operator::In {
            return self.evaluate_in(value);
        }
        let Some(other) = self.single_value() else { return FilterResult::NoMatch };
        let by_order = |holds: fn(Ordering) -> bool| self.compare(value, other).map(holds);
        self.result(match self.operator {
            Operator::Eq => self.equal(value, other),
            Operator::Neq => self.equal(value, other).map(|equal| !equal),
            Operator::Lt => by_order(Ordering::is_lt),
            Operator::Lte => by_order(Ordering::is_le),
            Operator::Gt => by_order(Ordering::is_gt),
            Operator::Gte => by_order(Ordering::is_ge),
            Operator::Like if self.kind == TypeKind::Text => matches_like(value, other),
            Operator::Like | Operator::ILike | Operator::Match | Operator::IMatch => None,
            Operator::In | Operator::Is | Operator::IsDistinct => unreachable!("decided before"),
        })
    }

    fn single_value(&self) -> Option<&str> {
        self.canonical.first().and_then(Option::as_deref)
    }

    const fn result(&self, holds: Option<bool>) -> FilterResult {
        match holds {
            None => FilterResult::NeedsDatabase,
            Some(holds) if holds != self.negated => FilterResult::Matches,
            Some(_) => FilterResult::NoMatch,
        }
    }

    fn evaluate_is(&self, value: Option<&str>) -> FilterResult {
        let holds = match self.single_value().map(str::to_ascii_lowercase).as_deref() {
            Some("true") => value == Some("t"),
            Some("false") => value == Some("f"),
            // `null` and `unknown`.
            _ => value.is_none(),
        };
        self.result(Some(holds))
    }

    fn evaluate_in(&self, value: &str) -> FilterResult {
        let mut has_null = false;
        for other in &self.canonical {
            match other.as_deref().map(|other| self.equal(value, other)) {
                None => has_null = true,
                Some(None) => return FilterResult::NeedsDatabase,
                Some(Some(true)) => return self.result(Some(true)),
                Some(Some(false)) => {}
            }
        }
        // Not among them, but one of them is NULL: unknown.
        if has_null { FilterResult::NoMatch } else { self.result(Some(false)) }
    }

    fn equal(&self, one: &str, other: &str) -> Option<bool> {
        match self.kind {
            TypeKind::Text | TypeKind::Enum | TypeKind::Boolean => Some(one == other),
            _ => self.compare(one, other).map(Ordering::is_eq),
        }
    }

    fn compare(&self, one: &str, other: &str) -> Option<Ordering> {
        match self.kind {
            TypeKind::Integer => Some(one.parse::<i64>().ok()?.cmp(&other.parse().ok()?)),
            TypeKind::Float => compare_floats(one, other),
            TypeKind::Numeric => compare_decimals(one, other),
            // `f` before `t`; digits of one length in lower case.
            TypeKind::Boolean | TypeKind::Bytes => Some(one.cmp(other)),
            TypeKind::Date | TypeKind::Timestamp | TypeKind::TimestampTz => {
                (is_sortable_time(one) && is_sortable_time(other)).then(|| one.cmp(other))
            }
            _ => None,
        }
    }
}

/// NaN is the largest, and equals itself; zeros are equal.
fn compare_floats(one: &str, other: &str) -> Option<Ordering> {
    let (one, other): (f64, f64) = (one.parse().ok()?, other.parse().ok()?);
    Some(match (one.is_nan(), other.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => one.partial_cmp(&other)?,
    })
}

/// Compares decimal numbers of any length without an exponent.
fn compare_decimals(one: &str, other: &str) -> Option<Ordering> {
    let ranked = |text: &str| match text {
        "-Infinity" => Some(0),
        "Infinity" => Some(2),
        "NaN" => Some(3),
        text if text.ends_with(|c: char| c.is_ascii_digit()) => Some(1),
        _ => None,
    };
    let (rank, other_rank) = (ranked(one)?, ranked(other)?);
    if rank != 1 || other_rank != 1 {
        return Some(rank.cmp(&other_rank));
    }
    let parts = |text: &str| {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let (whole, fraction) =
            (whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned());
        let is_zero = whole.is_empty() && fraction.is_empty();
        (negative && !is_zero, whole, fraction)
    };
    let ((negative, whole, fraction), (other_negative, other_whole, other_fraction)) =
        (parts(one), parts(other));
    let size = (whole.len(), &whole, &fraction).cmp(&(other_whole.len(), &other_whole, &other_fraction));
    Some(match (negative, other_negative) {
        (false, true) => Ordering::Greater,
        (true, false) => Ordering::Less,
        (false, false) => size,
        (true, true) => size.reverse(),
    })
}

/// With a year of four digits, after Christ, and not infinite: such texts sort as their times do, because a `+` and
/// an end sort before a point, and a point before a digit.
fn is_sortable_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 10
        && bytes[4] == b'-'
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && !text.ends_with("BC")
}

/// SQL's pattern: `%` any characters, `_` one, `\` takes the next as it is. `None`: PostgreSQL would raise an error.
fn matches_like(value: &str, pattern: &str) -> Option<bool> {
    enum Piece {
        Any,
        One,
        This(char),
    }
    let mut pieces = Vec::new();
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        pieces.push(match char {
            '%' => Piece::Any,
            '_' => Piece::One,
            '\\' => Piece::This(chars.next()?),
            char => Piece::This(char),
        });
    }
    let value: Vec<char> = value.chars().collect();
    // The place of the last `%`, and how much of the value it has taken: where to go on after a failure.
    let (mut at, mut piece, mut retry) = (0, 0, None);
    loop {
        match pieces.get(piece) {
            Some(Piece::Any) => {
                retry = Some((piece, at));
                piece += 1;
            }
            Some(Piece::One) if at < value.len() => (at, piece) = (at + 1, piece + 1),
            Some(Piece::This(char)) if value.get(at) == Some(char) => (at, piece) = (at + 1, piece + 1),
            None if at == value.len() => return Some(true),
            _ => match retry {
                Some((any, from)) if from < value.len() => {
                    retry = Some((any, from + 1));
                    (at, piece) = (from + 1, any + 1);
                }
                _ => return Some(false),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn predicate(operator: Operator, kind: TypeKind, values: &[&str]) -> Predicate {
        let canonical = values.iter().map(|value| (*value != "NULL").then(|| (*value).to_owned())).collect();
        Predicate::new(operator, false, kind, canonical)
    }

    fn negated(test: Predicate) -> Predicate {
        Predicate { negated: true, ..test }
    }

    #[test]
    fn null_matches_neither_a_condition_nor_its_negation() {
        for operator in [Operator::Eq, Operator::Neq, Operator::Lt, Operator::In, Operator::Like] {
            let test = predicate(operator, TypeKind::Text, &["x"]);
            assert_eq!(test.evaluate(None), FilterResult::NoMatch, "{operator:?}");
            assert_eq!(negated(test).evaluate(None), FilterResult::NoMatch, "not {operator:?}");
        }
    }

    #[test]
    fn is_and_isdistinct_handle_null() {
        assert_eq!(predicate(Operator::Is, TypeKind::Text, &["null"]).evaluate(None), FilterResult::Matches);
        assert_eq!(
            negated(predicate(Operator::Is, TypeKind::Text, &["NuLL"])).evaluate(Some("x")),
            FilterResult::Matches
        );
        assert_eq!(
            predicate(Operator::Is, TypeKind::Boolean, &["unknown"]).evaluate(None),
            FilterResult::Matches
        );
        assert_eq!(
            predicate(Operator::Is, TypeKind::Boolean, &["true"]).evaluate(Some("f")),
            FilterResult::NoMatch
        );
        assert_eq!(
            negated(predicate(Operator::Is, TypeKind::Boolean, &["false"])).evaluate(None),
            FilterResult::Matches
        );
        assert_eq!(
            predicate(Operator::IsDistinct, TypeKind::Text, &["x"]).evaluate(None),
            FilterResult::Matches
        );
        assert_eq!(
            negated(predicate(Operator::IsDistinct, TypeKind::Text, &["x"])).evaluate(Some("x")),
            FilterResult::Matches
        );
    }

    #[test]
    fn not_in_a_list_with_null_never_matches() {
        let list = predicate(Operator::In, TypeKind::Integer, &["4", "NULL"]);
        assert_eq!(list.evaluate(Some("4")), FilterResult::Matches);
        assert_eq!(list.evaluate(Some("5")), FilterResult::NoMatch);
        assert_eq!(negated(list.clone()).evaluate(Some("5")), FilterResult::NoMatch);
        assert_eq!(
            negated(predicate(Operator::In, TypeKind::Integer, &["4"])).evaluate(Some("5")),
            FilterResult::Matches
        );
    }

    #[test]
    fn values_compare_by_type() {
        for (kind, less, more) in [
            (TypeKind::Integer, "9", "10"),
            (TypeKind::Integer, "-10", "-9"),
            (TypeKind::Float, "1e+10", "NaN"),
            (TypeKind::Float, "-Infinity", "-1"),
            (TypeKind::Numeric, "-1.50", "1.5"),
            (TypeKind::Numeric, "9.99", "10"),
            (TypeKind::Numeric, "99999999999999999999.1", "NaN"),
            (TypeKind::Timestamp, "2026-01-01 00:00:00", "2026-01-01 00:00:00.5"),
            (TypeKind::TimestampTz, "2026-01-01 00:00:00+00", "2026-01-01 00:00:00.5+00"),
            (TypeKind::Boolean, "f", "t"),
        ] {
            assert_eq!(
                predicate(Operator::Lt, kind.clone(), &[more]).evaluate(Some(less)),
                FilterResult::Matches,
                "{less} < {more}"
            );
            assert_eq!(
                predicate(Operator::Gte, kind, &[more]).evaluate(Some(less)),
                FilterResult::NoMatch,
                "{less} >= {more}"
            );
        }
        assert_eq!(
            predicate(Operator::Eq, TypeKind::Numeric, &["1.0"]).evaluate(Some("1.00")),
            FilterResult::Matches
        );
        assert_eq!(
            predicate(Operator::Eq, TypeKind::Float, &["0"]).evaluate(Some("-0")),
            FilterResult::Matches
        );
    }

    #[test]
    fn undecidable_comparisons_need_the_database() {
        for (operator, kind, value) in [
            (Operator::Lt, TypeKind::Text, "b"),
            (Operator::ILike, TypeKind::Text, "b"),
            (Operator::Match, TypeKind::Text, "b"),
            (Operator::Eq, TypeKind::Other, "b"),
            (Operator::Lt, TypeKind::Timestamp, "infinity"),
            (Operator::Like, TypeKind::Text, "b\\"),
        ] {
            assert_eq!(
                predicate(operator, kind, &[value]).evaluate(Some("a")),
                FilterResult::NeedsDatabase,
                "{operator:?}"
            );
        }
    }

    #[test]
    fn like_handles_wildcards_and_escapes() {
        for (value, pattern, holds) in [
            ("five", "f%", true),
            ("five", "f*", false),
            ("five", "%v_", true),
            ("", "%", true),
            ("", "_", false),
            ("a%b", r"a\%b", true),
            ("axb", r"a\%b", false),
            ("aXbXc", "%X_", true),
            ("äöü", "__ü", true),
        ] {
            assert_eq!(matches_like(value, pattern), Some(holds), "{value} like {pattern}");
        }
    }

    proptest! {
        #[test]
        fn decimals_compare_as_numbers(one in -10_000_i64..10_000, other in -10_000_i64..10_000) {
            let text = |n: i64| format!("{}{}.{:02}", if n < 0 { "-" } else { "" }, n.abs() / 100, n.abs() % 100);
            prop_assert_eq!(compare_decimals(&text(one), &text(other)), Some(one.cmp(&other)));
        }
    }
}
