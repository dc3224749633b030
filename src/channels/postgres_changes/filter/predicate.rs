//! Evaluates filters for values.
//!
//! [`Predicate::evaluate`] decides comparisons of constant cost, where the result equals PostgreSQL's: equality of
//! canonical texts, and the order of numbers, times and bytes. It may be used before row-level security. Patterns are
//! decided by [`Predicate::evaluate_visible`], for visible rows only, because their cost depends on the row and on the
//! client's choice. Collations, regular expressions and other types need PostgreSQL.

use std::cmp::Ordering;

use super::Operator;
use crate::channels::postgres_changes::types::TypeKind;

/// Maximum length of the value times that of the pattern for `like` in memory, which bounds the time of one evaluation.
const MAX_LIKE_STEPS: usize = 1 << 18;

/// Result of a filter for one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterResult {
    Matches,
    /// The value does not match, or the result is NULL.
    NoMatch,
    /// Not a comparison of constant cost, or only PostgreSQL can decide.
    Undecided,
}

/// A filter prepared for columns of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predicate {
    operator: Operator,
    negated: bool,
    kind: TypeKind,
    /// The operands in the text form of the type's output function: a list for `in`, else one. `None` is NULL and
    /// occurs only in a list.
    canonical: Vec<Option<String>>,
}

impl Predicate {
    /// Creates a predicate for columns of a type kind. `canonical` holds one operand, or a list for `in`.
    #[must_use]
    pub const fn new(
        operator: Operator,
        negated: bool,
        kind: TypeKind,
        canonical: Vec<Option<String>>,
    ) -> Self {
        Self { operator, negated, kind, canonical }
    }

    /// Evaluates a value in the text form of the type's output function; `None` is NULL.
    #[must_use]
    pub fn evaluate(&self, value: Option<&str>) -> FilterResult {
        match self.operator {
            Operator::Is => self.evaluate_is(value),
            Operator::IsDistinct => {
                let distinct = match (value, self.single_value()) {
                    (None, None) => Some(false),
                    (None, Some(_)) | (Some(_), None) => Some(true),
                    (Some(value), Some(operand)) => self.equal(value, operand).map(|equal| !equal),
                };
                self.result(distinct)
            }
            _ => value.map_or(FilterResult::NoMatch, |value| self.evaluate_non_null(value)),
        }
    }

    /// Evaluates a value of a row that the subscriber may see. Decides `like` as well, within bounds.
    #[must_use]
    pub fn evaluate_visible(&self, value: Option<&str>) -> FilterResult {
        match (self.operator, &self.kind, value, self.single_value()) {
            (Operator::Like, TypeKind::Text, Some(value), Some(pattern))
                if value.len().saturating_mul(pattern.len()) <= MAX_LIKE_STEPS =>
            {
                self.result(matches_like(value, pattern))
            }
            _ => self.evaluate(value),
        }
    }

    /// Whether [`Self::evaluate`] decides for every value.
    #[must_use]
    pub const fn is_always_decided(&self) -> bool {
        match (self.operator, &self.kind) {
            (Operator::Is, _) => true,
            (Operator::Like | Operator::ILike | Operator::Match | Operator::IMatch, _) => false,
            (
                Operator::Eq | Operator::Neq | Operator::In | Operator::IsDistinct,
                TypeKind::Text | TypeKind::Enum,
            ) => true,
            (
                _,
                TypeKind::Integer | TypeKind::Float | TypeKind::Numeric | TypeKind::Boolean | TypeKind::Bytes,
            ) => true,
            _ => false,
        }
    }

    /// The texts of all values that match, if there are few of them and equal values have equal texts.
    #[must_use]
    pub fn accepted_values(&self) -> Option<Vec<&str>> {
        let is_canonical = matches!(
            self.kind,
            TypeKind::Text | TypeKind::Enum | TypeKind::Boolean | TypeKind::Bytes | TypeKind::Integer
        );
        if self.negated || !is_canonical || !matches!(self.operator, Operator::Eq | Operator::In) {
            return None;
        }
        // NULL in a list matches nothing.
        Some(self.canonical.iter().flatten().map(String::as_str).collect())
    }

    /// The text that PostgreSQL's output function returns for an operand, if that is known without a query.
    #[must_use]
    pub fn canonical_in_memory(operator: Operator, kind: &TypeKind, value: &str) -> Option<String> {
        match (operator, kind) {
            (Operator::Is | Operator::Like | Operator::ILike | Operator::Match | Operator::IMatch, _) => {
                Some(value.to_owned())
            }
            (Operator::In, _) => None,
            (_, TypeKind::Text) => Some(value.to_owned()),
            (_, TypeKind::Integer) => {
                // Another form or a value out of range is left to PostgreSQL.
                value
                    .parse::<i64>()
                    .ok()
                    .filter(|number| number.to_string() == value)
                    .map(|_| value.to_owned())
            }
            _ => None,
        }
    }

    fn evaluate_non_null(&self, value: &str) -> FilterResult {
        if self.operator == Operator::In {
            return self.evaluate_in(value);
        }
        let Some(operand) = self.single_value() else { return FilterResult::NoMatch };
        let compare_with = |is_match: fn(Ordering) -> bool| self.compare(value, operand).map(is_match);
        self.result(match self.operator {
            Operator::Eq => self.equal(value, operand),
            Operator::Neq => self.equal(value, operand).map(|equal| !equal),
            Operator::Lt => compare_with(Ordering::is_lt),
            Operator::Lte => compare_with(Ordering::is_le),
            Operator::Gt => compare_with(Ordering::is_gt),
            Operator::Gte => compare_with(Ordering::is_ge),
            Operator::Like | Operator::ILike | Operator::Match | Operator::IMatch => None,
            Operator::In | Operator::Is | Operator::IsDistinct => unreachable!("evaluated by the caller"),
        })
    }

    fn single_value(&self) -> Option<&str> {
        self.canonical.first().and_then(Option::as_deref)
    }

    const fn result(&self, is_match: Option<bool>) -> FilterResult {
        match is_match {
            None => FilterResult::Undecided,
            Some(is_match) if is_match != self.negated => FilterResult::Matches,
            Some(_) => FilterResult::NoMatch,
        }
    }

    fn evaluate_is(&self, value: Option<&str>) -> FilterResult {
        let is_match = match self.single_value().map(str::to_ascii_lowercase).as_deref() {
            Some("true") => value == Some("t"),
            Some("false") => value == Some("f"),
            // `null` and `unknown` have the same meaning.
            _ => value.is_none(),
        };
        self.result(Some(is_match))
    }

    fn evaluate_in(&self, value: &str) -> FilterResult {
        let mut has_null = false;
        for operand in &self.canonical {
            match operand.as_deref().map(|operand| self.equal(value, operand)) {
                None => has_null = true,
                Some(None) => return FilterResult::Undecided,
                Some(Some(true)) => return self.result(Some(true)),
                Some(Some(false)) => {}
            }
        }
        // The list has no equal value but contains NULL: the result is NULL.
        if has_null { FilterResult::NoMatch } else { self.result(Some(false)) }
    }

    fn equal(&self, left: &str, right: &str) -> Option<bool> {
        match self.kind {
            TypeKind::Text | TypeKind::Enum | TypeKind::Boolean => Some(left == right),
            _ => self.compare(left, right).map(Ordering::is_eq),
        }
    }

    fn compare(&self, left: &str, right: &str) -> Option<Ordering> {
        match self.kind {
            TypeKind::Integer => Some(left.parse::<i64>().ok()?.cmp(&right.parse().ok()?)),
            TypeKind::Float => compare_floats(left, right),
            TypeKind::Numeric => compare_decimals(left, right),
            // `f` sorts before `t`. The hexadecimal digits have equal length and are lower case.
            TypeKind::Boolean | TypeKind::Bytes => Some(left.cmp(right)),
            TypeKind::Date | TypeKind::Timestamp | TypeKind::TimestampTz => {
                (is_sortable_time(left) && is_sortable_time(right)).then(|| left.cmp(right))
            }
            _ => None,
        }
    }
}

/// NaN is greater than all other numbers and equals itself; negative zero equals zero.
fn compare_floats(left: &str, right: &str) -> Option<Ordering> {
    let (left, right): (f64, f64) = (left.parse().ok()?, right.parse().ok()?);
    Some(match (left.is_nan(), right.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => left.partial_cmp(&right)?,
    })
}

/// Compares decimal numbers of any length without an exponent.
fn compare_decimals(left: &str, right: &str) -> Option<Ordering> {
    let rank = |text: &str| match text {
        "-Infinity" => Some(0),
        "Infinity" => Some(2),
        "NaN" => Some(3),
        text if text.ends_with(|c: char| c.is_ascii_digit()) => Some(1),
        _ => None,
    };
    let (left_rank, right_rank) = (rank(left)?, rank(right)?);
    if left_rank != 1 || right_rank != 1 {
        return Some(left_rank.cmp(&right_rank));
    }
    let parts = |text: &str| {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let (whole, fraction) =
            (whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned());
        let is_zero = whole.is_empty() && fraction.is_empty();
        (negative && !is_zero, whole, fraction)
    };
    let ((negative, whole, fraction), (right_negative, right_whole, right_fraction)) =
        (parts(left), parts(right));
    let size = (whole.len(), &whole, &fraction).cmp(&(right_whole.len(), &right_whole, &right_fraction));
    Some(match (negative, right_negative) {
        (false, true) => Ordering::Greater,
        (true, false) => Ordering::Less,
        (false, false) => size,
        (true, true) => size.reverse(),
    })
}

/// Whether the text sorts as its time does: it has a year of four digits, is not BC and not infinite. `+` and the end
/// of the text sort before `.`, and `.` sorts before a digit.
fn is_sortable_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 10
        && bytes[4] == b'-'
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && !text.ends_with("BC")
}

/// Matches a `like` pattern: `%` is any text, `_` one character, `\` escapes the next character. `None` if PostgreSQL
/// would raise an error.
fn matches_like(value: &str, pattern: &str) -> Option<bool> {
    enum Token {
        AnyText,
        AnyChar,
        Literal(char),
    }
    let mut tokens = Vec::new();
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        tokens.push(match char {
            '%' => Token::AnyText,
            '_' => Token::AnyChar,
            '\\' => Token::Literal(chars.next()?),
            char => Token::Literal(char),
        });
    }
    let value: Vec<char> = value.chars().collect();
    // Position of the last `%` in the pattern, and the end of the text that it covers: the point to resume after a
    // mismatch.
    let (mut position, mut token, mut backtrack) = (0, 0, None);
    loop {
        match tokens.get(token) {
            Some(Token::AnyText) => {
                backtrack = Some((token, position));
                token += 1;
            }
            Some(Token::AnyChar) if position < value.len() => (position, token) = (position + 1, token + 1),
            Some(Token::Literal(char)) if value.get(position) == Some(char) => {
                (position, token) = (position + 1, token + 1)
            }
            None if position == value.len() => return Some(true),
            _ => match backtrack {
                Some((wildcard, from)) if from < value.len() => {
                    backtrack = Some((wildcard, from + 1));
                    (position, token) = (from + 1, wildcard + 1);
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
        for (kind, smaller, greater) in [
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
                predicate(Operator::Lt, kind.clone(), &[greater]).evaluate(Some(smaller)),
                FilterResult::Matches,
                "{smaller} < {greater}"
            );
            assert_eq!(
                predicate(Operator::Gte, kind, &[greater]).evaluate(Some(smaller)),
                FilterResult::NoMatch,
                "{smaller} >= {greater}"
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
            (Operator::Like, TypeKind::Text, "a%"),
        ] {
            assert_eq!(
                predicate(operator, kind, &[value]).evaluate(Some("a")),
                FilterResult::Undecided,
                "{operator:?}"
            );
        }
    }

    #[test]
    fn like_is_decided_for_visible_rows_within_bounds() {
        let like = predicate(Operator::Like, TypeKind::Text, &["a%"]);
        assert_eq!(like.evaluate_visible(Some("ab")), FilterResult::Matches);
        assert_eq!(negated(like.clone()).evaluate_visible(Some("ab")), FilterResult::NoMatch);
        assert_eq!(like.evaluate_visible(None), FilterResult::NoMatch);
        assert_eq!(like.evaluate_visible(Some(&"a".repeat(MAX_LIKE_STEPS))), FilterResult::Undecided);
        let invalid = predicate(Operator::Like, TypeKind::Text, &["a\\"]);
        assert_eq!(invalid.evaluate_visible(Some("a")), FilterResult::Undecided);
    }

    #[test]
    fn only_equality_of_canonical_texts_is_indexed() {
        let values = |operator, kind, values: &[&str]| {
            predicate(operator, kind, values).accepted_values().map(|values| values.join(" "))
        };
        assert_eq!(values(Operator::Eq, TypeKind::Integer, &["5"]).as_deref(), Some("5"));
        assert_eq!(values(Operator::In, TypeKind::Text, &["a", "NULL", "b"]).as_deref(), Some("a b"));
        assert_eq!(values(Operator::Eq, TypeKind::Numeric, &["1.0"]), None);
        assert_eq!(values(Operator::Neq, TypeKind::Text, &["a"]), None);
        assert_eq!(negated(predicate(Operator::Eq, TypeKind::Text, &["a"])).accepted_values(), None);
    }

    #[test]
    fn like_handles_wildcards_and_escapes() {
        for (value, pattern, is_match) in [
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
            assert_eq!(matches_like(value, pattern), Some(is_match), "{value} like {pattern}");
        }
    }

    proptest! {
        #[test]
        fn decimals_compare_as_numbers(left in -10_000_i64..10_000, right in -10_000_i64..10_000) {
            let text = |n: i64| format!("{}{}.{:02}", if n < 0 { "-" } else { "" }, n.abs() / 100, n.abs() % 100);
            prop_assert_eq!(compare_decimals(&text(left), &text(right)), Some(left.cmp(&right)));
        }
    }
}
