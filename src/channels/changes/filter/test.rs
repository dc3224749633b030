//! Deciding filters for values.
//!
//! In memory only where that is to the letter what PostgreSQL answers: equality of canonical texts, order of
//! numbers, times and bytes, `like`. What depends on a collation, a regular expression or an exotic type is
//! PostgreSQL's to decide: [`Verdict::Ask`].

use std::cmp::Ordering;

use super::Operator;
use crate::channels::changes::types::Kind;

/// What a filter says of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not, or is unknown.
    Fails,
    /// Only PostgreSQL knows.
    Ask,
}

/// A filter made ready for columns of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    operator: Operator,
    negated: bool,
    kind: Kind,
    /// The other side as the type's output function writes it; a list for `in`; null only within a list.
    canonical: Vec<Option<String>>,
}

impl Test {
    /// A test of columns whose type is of a kind, against canonical values: one, or a list for `in`.
    #[must_use]
    pub const fn new(operator: Operator, negated: bool, kind: Kind, canonical: Vec<Option<String>>) -> Self {
        Self { operator, negated, kind, canonical }
    }

    /// What it says of a value, null for NULL, in the text of the type's output function.
    #[must_use]
    pub fn of(&self, value: Option<&str>) -> Verdict {
        match self.operator {
            Operator::Is => self.is(value),
            Operator::IsDistinct => {
                let distinct = match (value, self.only()) {
                    (None, None) => Some(false),
                    (None, Some(_)) | (Some(_), None) => Some(true),
                    (Some(value), Some(other)) => self.equal(value, other).map(|equal| !equal),
                };
                self.verdict(distinct)
            }
            _ => value.map_or(Verdict::Fails, |value| self.of_value(value)),
        }
    }

    fn of_value(&self, value: &str) -> Verdict {
        if self.operator == Operator::In {
            return self.within(value);
        }
        let Some(other) = self.only() else { return Verdict::Fails };
        let by_order = |holds: fn(Ordering) -> bool| self.order(value, other).map(holds);
        self.verdict(match self.operator {
            Operator::Eq => self.equal(value, other),
            Operator::Neq => self.equal(value, other).map(|equal| !equal),
            Operator::Lt => by_order(Ordering::is_lt),
            Operator::Lte => by_order(Ordering::is_le),
            Operator::Gt => by_order(Ordering::is_gt),
            Operator::Gte => by_order(Ordering::is_ge),
            Operator::Like if self.kind == Kind::Text => like(value, other),
            Operator::Like | Operator::ILike | Operator::Match | Operator::IMatch => None,
            Operator::In | Operator::Is | Operator::IsDistinct => unreachable!("decided before"),
        })
    }

    fn only(&self) -> Option<&str> {
        self.canonical.first().and_then(Option::as_deref)
    }

    const fn verdict(&self, holds: Option<bool>) -> Verdict {
        match holds {
            None => Verdict::Ask,
            Some(holds) if holds != self.negated => Verdict::Holds,
            Some(_) => Verdict::Fails,
        }
    }

    fn is(&self, value: Option<&str>) -> Verdict {
        let holds = match self.only().map(str::to_ascii_lowercase).as_deref() {
            Some("true") => value == Some("t"),
            Some("false") => value == Some("f"),
            // `null` and `unknown`.
            _ => value.is_none(),
        };
        self.verdict(Some(holds))
    }

    fn within(&self, value: &str) -> Verdict {
        let mut has_null = false;
        for other in &self.canonical {
            match other.as_deref().map(|other| self.equal(value, other)) {
                None => has_null = true,
                Some(None) => return Verdict::Ask,
                Some(Some(true)) => return self.verdict(Some(true)),
                Some(Some(false)) => {}
            }
        }
        // Not among them, but one of them is NULL: unknown.
        if has_null { Verdict::Fails } else { self.verdict(Some(false)) }
    }

    fn equal(&self, one: &str, other: &str) -> Option<bool> {
        match self.kind {
            Kind::Text | Kind::Enum | Kind::Boolean => Some(one == other),
            _ => self.order(one, other).map(Ordering::is_eq),
        }
    }

    fn order(&self, one: &str, other: &str) -> Option<Ordering> {
        match self.kind {
            Kind::Integer => Some(one.parse::<i64>().ok()?.cmp(&other.parse().ok()?)),
            Kind::Float => floats(one, other),
            Kind::Numeric => decimals(one, other),
            // `f` before `t`; digits of one length in lower case.
            Kind::Boolean | Kind::Bytes => Some(one.cmp(other)),
            Kind::Date | Kind::Timestamp | Kind::TimestampTz => {
                (is_plain_time(one) && is_plain_time(other)).then(|| one.cmp(other))
            }
            _ => None,
        }
    }
}

/// NaN is the largest, and equals itself; zeros are equal.
fn floats(one: &str, other: &str) -> Option<Ordering> {
    let (one, other): (f64, f64) = (one.parse().ok()?, other.parse().ok()?);
    Some(match (one.is_nan(), other.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => one.partial_cmp(&other)?,
    })
}

/// Compares decimal numbers of any length without an exponent.
fn decimals(one: &str, other: &str) -> Option<Ordering> {
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
fn is_plain_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 10
        && bytes[4] == b'-'
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && !text.ends_with("BC")
}

/// SQL's pattern: `%` any characters, `_` one, `\` takes the next as it is. `None`: PostgreSQL would raise an error.
fn like(value: &str, pattern: &str) -> Option<bool> {
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

    fn test(operator: Operator, kind: Kind, values: &[&str]) -> Test {
        let canonical = values.iter().map(|value| (*value != "NULL").then(|| (*value).to_owned())).collect();
        Test::new(operator, false, kind, canonical)
    }

    fn negated(test: Test) -> Test {
        Test { negated: true, ..test }
    }

    #[test]
    fn null_satisfies_neither_a_condition_nor_its_opposite() {
        for operator in [Operator::Eq, Operator::Neq, Operator::Lt, Operator::In, Operator::Like] {
            let test = test(operator, Kind::Text, &["x"]);
            assert_eq!(test.of(None), Verdict::Fails, "{operator:?}");
            assert_eq!(negated(test).of(None), Verdict::Fails, "not {operator:?}");
        }
    }

    #[test]
    fn is_and_isdistinct_know_null() {
        assert_eq!(test(Operator::Is, Kind::Text, &["null"]).of(None), Verdict::Holds);
        assert_eq!(negated(test(Operator::Is, Kind::Text, &["NuLL"])).of(Some("x")), Verdict::Holds);
        assert_eq!(test(Operator::Is, Kind::Boolean, &["unknown"]).of(None), Verdict::Holds);
        assert_eq!(test(Operator::Is, Kind::Boolean, &["true"]).of(Some("f")), Verdict::Fails);
        assert_eq!(negated(test(Operator::Is, Kind::Boolean, &["false"])).of(None), Verdict::Holds);
        assert_eq!(test(Operator::IsDistinct, Kind::Text, &["x"]).of(None), Verdict::Holds);
        assert_eq!(negated(test(Operator::IsDistinct, Kind::Text, &["x"])).of(Some("x")), Verdict::Holds);
    }

    #[test]
    fn a_list_with_null_is_never_known_not_to_hold_a_value() {
        let list = test(Operator::In, Kind::Integer, &["4", "NULL"]);
        assert_eq!(list.of(Some("4")), Verdict::Holds);
        assert_eq!(list.of(Some("5")), Verdict::Fails);
        assert_eq!(negated(list.clone()).of(Some("5")), Verdict::Fails);
        assert_eq!(negated(test(Operator::In, Kind::Integer, &["4"])).of(Some("5")), Verdict::Holds);
    }

    #[test]
    fn values_compare_in_their_type() {
        for (kind, less, more) in [
            (Kind::Integer, "9", "10"),
            (Kind::Integer, "-10", "-9"),
            (Kind::Float, "1e+10", "NaN"),
            (Kind::Float, "-Infinity", "-1"),
            (Kind::Numeric, "-1.50", "1.5"),
            (Kind::Numeric, "9.99", "10"),
            (Kind::Numeric, "99999999999999999999.1", "NaN"),
            (Kind::Timestamp, "2026-01-01 00:00:00", "2026-01-01 00:00:00.5"),
            (Kind::TimestampTz, "2026-01-01 00:00:00+00", "2026-01-01 00:00:00.5+00"),
            (Kind::Boolean, "f", "t"),
        ] {
            assert_eq!(
                test(Operator::Lt, kind.clone(), &[more]).of(Some(less)),
                Verdict::Holds,
                "{less} < {more}"
            );
            assert_eq!(test(Operator::Gte, kind, &[more]).of(Some(less)), Verdict::Fails, "{less} >= {more}");
        }
        assert_eq!(test(Operator::Eq, Kind::Numeric, &["1.0"]).of(Some("1.00")), Verdict::Holds);
        assert_eq!(test(Operator::Eq, Kind::Float, &["0"]).of(Some("-0")), Verdict::Holds);
    }

    #[test]
    fn what_depends_on_more_is_asked() {
        for (operator, kind, value) in [
            (Operator::Lt, Kind::Text, "b"),
            (Operator::ILike, Kind::Text, "b"),
            (Operator::Match, Kind::Text, "b"),
            (Operator::Eq, Kind::Other, "b"),
            (Operator::Lt, Kind::Timestamp, "infinity"),
            (Operator::Like, Kind::Text, "b\\"),
        ] {
            assert_eq!(test(operator, kind, &[value]).of(Some("a")), Verdict::Ask, "{operator:?}");
        }
    }

    #[test]
    fn like_knows_its_wildcards() {
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
            assert_eq!(like(value, pattern), Some(holds), "{value} like {pattern}");
        }
    }

    proptest! {
        #[test]
        fn decimals_compare_as_numbers(one in -10_000_i64..10_000, other in -10_000_i64..10_000) {
            let text = |n: i64| format!("{}{}.{:02}", if n < 0 { "-" } else { "" }, n.abs() / 100, n.abs() % 100);
            prop_assert_eq!(decimals(&text(one), &text(other)), Some(one.cmp(&other)));
        }
    }
}
