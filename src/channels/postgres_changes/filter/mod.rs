//! Parses filters: `column=op.value[,column=op.value…]`, all of which must match.
//!
//! [`predicate`] evaluates them for values.

pub mod predicate;

use std::fmt;

use super::inspect::inspect_string;

/// Comparison operator of a filter. In SQL: `=`, `<>`, `<`, `<=`, `>`, `>=`, `= any (list)`, `~~`, `~~*`, `~`, `~*`, `is`
/// and `is distinct from`, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    Eq,
    Neq,
    Lt,
    Lte,
    Gt,
    Gte,
    In,
    Like,
    ILike,
    Match,
    IMatch,
    Is,
    IsDistinct,
}

impl Operator {
    /// The operator's name in filters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Neq => "neq",
            Self::Lt => "lt",
            Self::Lte => "lte",
            Self::Gt => "gt",
            Self::Gte => "gte",
            Self::In => "in",
            Self::Like => "like",
            Self::ILike => "ilike",
            Self::Match => "match",
            Self::IMatch => "imatch",
            Self::Is => "is",
            Self::IsDistinct => "isdistinct",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        const ALL: [Operator; 13] = [
            Operator::Eq,
            Operator::Neq,
            Operator::Lt,
            Operator::Lte,
            Operator::Gt,
            Operator::Gte,
            Operator::In,
            Operator::Like,
            Operator::ILike,
            Operator::Match,
            Operator::IMatch,
            Operator::Is,
            Operator::IsDistinct,
        ];
        ALL.into_iter().find(|operator| operator.as_str() == name)
    }
}

/// One condition of a filter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    pub column: Box<str>,
    pub operator: Operator,
    /// Whether the condition is negated. NULL matches neither form.
    pub negated: bool,
    /// The operand: a literal of the column's type, or of its array type for `in`.
    pub value: Box<str>,
}

/// A filter that does not parse. The text is appended to the prefix that Supabase Realtime uses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// An empty segment between two commas.
    #[error("filter must not contain empty segments (check for extra commas)")]
    EmptySegment,
    /// The value of `in` has no parentheses.
    #[error("`in` filter value must be wrapped by parentheses")]
    MissingParentheses,
    /// Any other error, with the parts that were parsed.
    #[error("[{}]", .0.iter().map(|part| inspect_string(part)).collect::<Vec<_>>().join(", "))]
    Unparsable(Vec<String>),
}

impl Filter {
    /// Parses a list of conditions. Blank text is an empty list.
    ///
    /// # Errors
    /// If a condition does not parse.
    pub fn parse_all(text: &str) -> Result<Box<[Self]>, FilterError> {
        if text.trim().is_empty() {
            return Ok(Box::default());
        }
        split_conditions(text).into_iter().map(Self::parse).collect()
    }

    fn parse(segment: &str) -> Result<Self, FilterError> {
        let segment = segment.trim();
        if segment.is_empty() {
            return Err(FilterError::EmptySegment);
        }
        let Some((column, rest)) = segment.split_once('=') else {
            return Err(FilterError::Unparsable(vec![segment.to_owned()]));
        };
        let (negated, rest) = rest.strip_prefix("not.").map_or((false, rest), |rest| (true, rest));
        let Some((name, value)) = rest.split_once('.') else {
            return Err(FilterError::Unparsable(vec![rest.to_owned()]));
        };
        let operator = Operator::parse(name)
            .ok_or_else(|| FilterError::Unparsable(vec![name.to_owned(), value.to_owned()]))?;
        let value = if operator == Operator::In {
            let inner = value.strip_prefix('(').and_then(|value| value.strip_suffix(')'));
            format!("{{{}}}", inner.ok_or(FilterError::MissingParentheses)?)
        } else {
            unquote(value)
        };
        Ok(Self { column: column.trim().into(), operator, negated, value: value.into() })
    }

    /// Approximate memory of the condition in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.column.len() + self.value.len() + size_of::<Self>()
    }

    /// Formats the condition as Supabase Realtime does in errors.
    #[must_use]
    pub fn describe(&self) -> String {
        let (column, value) = (inspect_string(&self.column), inspect_string(&self.value));
        format!("{{{column}, \"{}\", {value}, {}}}", self.operator.as_str(), self.negated)
    }
}

/// As clients write it, but with the operand as it is stored. Truncated after 500 characters.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let negation = if self.negated { "not." } else { "" };
        write!(f, "{}={negation}{}.{:.500}", self.column, self.operator.as_str(), self.value)
    }
}

/// Splits at commas outside of quotes and parentheses. A quote opens only after `.`, `(` or `,`.
fn split_conditions(text: &str) -> Vec<&str> {
    let (mut segments, mut start, mut depth, mut in_quotes, mut previous) =
        (Vec::new(), 0, 0_u32, false, None);
    let mut chars = text.char_indices();
    while let Some((index, char)) = chars.next() {
        match char {
            '\\' if in_quotes => drop(chars.next()),
            '"' if in_quotes => in_quotes = false,
            '"' if matches!(previous, Some('.' | '(' | ',')) => in_quotes = true,
            '(' if !in_quotes => depth += 1,
            ')' if !in_quotes => depth = depth.saturating_sub(1),
            ',' if !in_quotes && depth == 0 => {
                segments.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
        previous = Some(char);
    }
    segments.push(&text[start..]);
    segments
}

/// Removes quotes and escapes from a quoted value. Other values are returned unchanged.
fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => out.extend(chars.next()),
            // The quotes do not enclose the whole value.
            '"' => return value.to_owned(),
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_one(text: &str) -> (String, Operator, bool, String) {
        let all = Filter::parse_all(text).unwrap();
        let [Filter { column, operator, negated, value }] = &*all else { panic!("{text}: {all:?}") };
        (column.to_string(), *operator, *negated, value.to_string())
    }

    #[test]
    fn condition_parses_into_column_operator_and_value() {
        for (text, operator, negated, value) in [
            ("n=eq.5", Operator::Eq, false, "5"),
            (" n=not.lte.1.5 ", Operator::Lte, true, "1.5"),
            ("n=eq.a=b.c", Operator::Eq, false, "a=b.c"),
            ("n=in.(4,6)", Operator::In, false, "{4,6}"),
            (r#"n=in.("a,b",six)"#, Operator::In, false, r#"{"a,b",six}"#),
            (r#"n=eq."Doe, Jane""#, Operator::Eq, false, "Doe, Jane"),
            (r#"n=eq."a\"b\\c""#, Operator::Eq, false, r#"a"b\c"#),
            (r#"n=eq.a"b"#, Operator::Eq, false, r#"a"b"#),
            (r#"n=eq."a"b""#, Operator::Eq, false, r#""a"b""#),
            ("n=eq.", Operator::Eq, false, ""),
            ("n=isdistinct.x", Operator::IsDistinct, false, "x"),
            ("n=not.is.null", Operator::Is, true, "null"),
        ] {
            assert_eq!(parse_one(text), ("n".to_owned(), operator, negated, value.to_owned()), "{text}");
        }
    }

    #[test]
    fn commas_in_quotes_or_parentheses_do_not_split() {
        let all = Filter::parse_all(r#"a=in.(1,2),b=eq."x,y" , c=like.f%,d=eq.5" wide,e=eq.1"#).unwrap();
        let columns: Vec<_> = all.iter().map(|filter| &*filter.column).collect();
        assert_eq!(columns, ["a", "b", "c", "d", "e"]);
        assert!(Filter::parse_all("  ").unwrap().is_empty());
    }

    #[test]
    fn errors_show_the_parsed_parts() {
        for (text, shown) in [
            ("rank=foo.1", r#"["foo", "1"]"#),
            ("rank", r#"["rank"]"#),
            ("rank=in.1,2", "`in` filter value must be wrapped by parentheses"),
            ("rank=eq.1,,id=eq.2", "filter must not contain empty segments (check for extra commas)"),
            ("rank=eq.1,", "filter must not contain empty segments (check for extra commas)"),
        ] {
            assert_eq!(Filter::parse_all(text).unwrap_err().to_string(), shown);
        }
    }
}
