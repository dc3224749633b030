//! Splits a file into its statements, as the Supabase CLI does for its history table: at semicolons outside of
//! quotes, comments, parentheses and `begin atomic` bodies, comments staying with the statement that follows.

/// One statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statement<'a> {
    /// Its text, comments before it included, without the semicolon and the white space around.
    pub(super) text: &'a str,
    /// The line of the file that it begins on, from 1.
    pub(super) line: usize,
}

/// The statements of `sql`, in order.
pub(super) fn split(sql: &str) -> Vec<Statement<'_>> {
    let mut statements = Vec::new();
    let mut start = 0;
    while start < sql.len() {
        let end = Scanner::new(sql, start).find_end();
        let raw = &sql[start..end];
        let text = raw.trim().trim_end_matches(';').trim_end();
        if !text.is_empty() {
            let offset = start + (raw.len() - raw.trim_start().len());
            let line = 1 + sql[..offset].matches('\n').count();
            statements.push(Statement { text, line });
        }
        start = end;
    }
    statements
}

/// Walks over one statement. Works on bytes: everything that it looks for is ASCII, and no byte of a longer
/// UTF-8 character looks like ASCII.
struct Scanner<'a> {
    sql: &'a str,
    at: usize,
    start: usize,
    parentheses: usize,
    /// `begin atomic`, and `case` within it, that an `end` has yet to come for.
    blocks: usize,
    previous_word: &'a str,
}

impl<'a> Scanner<'a> {
    fn new(sql: &'a str, start: usize) -> Self {
        Self { sql, at: start, start, parentheses: 0, blocks: 0, previous_word: "" }
    }

    /// The offset behind the semicolon, or that of the end.
    fn find_end(mut self) -> usize {
        let bytes = self.sql.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'\'' => self.skip_quoted(b'\'', self.is_escape_string()),
                b'"' => self.skip_quoted(b'"', false),
                b'-' if self.rest().starts_with("--") => self.skip_past("\n"),
                b'/' if self.rest().starts_with("/*") => self.skip_block_comment(),
                b'$' => self.skip_dollar(),
                b'(' => {
                    self.parentheses += 1;
                    self.at += 1;
                }
                b')' => {
                    self.parentheses = self.parentheses.saturating_sub(1);
                    self.at += 1;
                }
                b';' if self.parentheses == 0 && self.blocks == 0 => return self.at + 1,
                _ if is_word_byte(byte) => self.read_word(),
                _ => self.at += 1,
            }
        }
        self.sql.len()
    }

    fn rest(&self) -> &'a str {
        &self.sql[self.at..]
    }

    /// Moves behind the next `mark`, or to the end if there is none: the server complains better than we would.
    fn skip_past(&mut self, mark: &str) {
        self.at = self.rest().find(mark).map_or(self.sql.len(), |found| self.at + found + mark.len());
    }

    /// `E'…'`, where a backslash escapes a quote.
    fn is_escape_string(&self) -> bool {
        let before = &self.sql.as_bytes()[self.start..self.at];
        matches!(before, [.., b'e' | b'E'])
            && !before.len().checked_sub(2).is_some_and(|index| is_word_byte(before[index]))
    }

    fn skip_quoted(&mut self, quote: u8, backslash_escapes: bool) {
        let bytes = self.sql.as_bytes();
        self.at += 1;
        while let Some(&byte) = bytes.get(self.at) {
            self.at += match byte {
                b'\\' if backslash_escapes => 2,
                // A doubled quote closes and opens again at once, which comes to the same.
                _ if byte == quote => {
                    self.at += 1;
                    return;
                }
                _ => 1,
            };
        }
        // A backslash at the very end counts one too many.
        self.at = self.at.min(bytes.len());
    }

    fn skip_block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.sql.len() {
            let bytes = &self.sql.as_bytes()[self.at..];
            if bytes.starts_with(b"/*") {
                depth += 1;
                self.at += 2;
            } else if bytes.starts_with(b"*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return;
                }
            } else {
                self.at += 1;
            }
        }
    }

    /// A dollar quote, or a mere dollar sign as in `$1`.
    fn skip_dollar(&mut self) {
        let rest = self.rest();
        let tag_end = rest[1..].find(|c: char| !(c.is_alphanumeric() || c == '_')).map(|found| found + 1);
        let Some(tag_end) = tag_end.filter(|&end| {
            rest.as_bytes()[end] == b'$' && !rest[1..].starts_with(|c: char| c.is_ascii_digit())
        }) else {
            self.at += 1;
            return;
        };
        let tag = &rest[..=tag_end];
        self.at += tag.len();
        self.skip_past(tag);
    }

    fn read_word(&mut self) {
        let rest = self.rest();
        let length = rest.bytes().position(|byte| !is_word_byte(byte)).unwrap_or(rest.len());
        let word = &rest[..length];
        self.at += length;
        let is = |name: &str| word.eq_ignore_ascii_case(name);
        let opens_body = is("atomic") && self.previous_word.eq_ignore_ascii_case("begin");
        if opens_body || (self.blocks > 0 && is("case")) {
            self.blocks += 1;
        } else if self.blocks > 0 && is("end") {
            self.blocks -= 1;
        }
        self.previous_word = word;
    }
}

/// Letters, digits, underscore and whatever is not ASCII; a dollar sign inside a name belongs to it too.
fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<&str> {
        split(sql).into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn statements_are_split_at_semicolons_and_keep_their_comments() {
        let sql = "select 1;\n\n-- two; of them\nselect 2 ;;\n  select 3";
        assert_eq!(texts(sql), ["select 1", "-- two; of them\nselect 2", "select 3"]);
        let lines: Vec<_> = split(sql).into_iter().map(|statement| statement.line).collect();
        assert_eq!(lines, [1, 3, 5]);
    }

    #[test]
    fn semicolons_in_quotes_comments_and_parentheses_do_not_split() {
        for sql in [
            "select 'a;b', 'it''s;', \"c;d\"",
            r"select E'it\'s;' || e'\\', 'x'",
            "select $$a;b$$, $tag$ ; $$ ; $tag$",
            "select 1 /* a; /* nested; */ b; */ + 2",
            "create rule r as on insert to t do also (insert into a values (1); delete from b)",
            "do $body$ begin perform 1; end; $body$",
            "select 'ünïcödé;', $größe$;$größe$",
        ] {
            assert_eq!(texts(&format!("{sql};")), [sql]);
        }
    }

    #[test]
    fn a_dollar_parameter_opens_no_quote() {
        assert_eq!(texts("select $1; select $2"), ["select $1", "select $2"]);
    }

    #[test]
    fn a_name_that_ends_in_e_is_no_escape_string_prefix() {
        assert_eq!(texts(r"select name'\'; select 2"), [r"select name'\'", "select 2"]);
    }

    #[test]
    fn an_atomic_body_is_one_statement() {
        let sql = "create function f(a int) returns int begin atomic select case when a > 0 then 1 end; select 2; end";
        assert_eq!(texts(&format!("{sql}; select 3;")), [sql, "select 3"]);
    }

    #[test]
    fn unclosed_constructs_extend_to_the_end() {
        for sql in ["select 'a; b", "select $$ a; b", "select /* a; b", "select (1; 2", "E'\\"] {
            assert_eq!(texts(sql), [sql]);
        }
        assert!(texts(" \n;; ; ").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn splitting_never_panics_and_loses_only_separators(sql in "[a-zE'\"$;()*/\\\\ \n-é]{0,60}") {
            let kept: String = texts(&sql).concat();
            let significant = |text: &str| text.chars().filter(|c| !c.is_whitespace() && *c != ';').count();
            proptest::prop_assert_eq!(significant(&kept), significant(&sql));
        }
    }
}
