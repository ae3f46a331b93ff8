//! The words of a Rust source outside of comments and literals.

/// Each word of the code with its line, from 1.
pub(super) struct Words<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Words<'a> {
    pub(super) fn of(source: &'a str) -> Self {
        Self { rest: source, line: 1 }
    }

    fn skip(&mut self, length: usize) {
        let (skipped, rest) = self.rest.split_at(length);
        self.line += skipped.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = rest;
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = (usize, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.rest;
            let first = rest.chars().next()?;
            if let Some(length) = comment(rest).or_else(|| literal(rest)) {
                self.skip(length);
            } else if is_of_word(first) {
                let length = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
                self.skip(length);
                return Some((self.line, &rest[..length]));
            } else {
                self.skip(first.len_utf8());
            }
        }
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the comment that the source begins with; comments between `/*` and `*/` may be nested.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(found) = rest[at..].find(['/', '*']) {
        at += found;
        let (opens, closes) = (rest[at..].starts_with("/*"), rest[at..].starts_with("*/"));
        at += if opens || closes { 2 } else { 1 };
        depth = if opens { depth + 1 } else { depth - usize::from(closes) };
        if depth == 0 {
            return Some(at);
        }
    }
    Some(rest.len())
}

/// The length of the string or character that the source begins with, its prefix counted.
fn literal(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| rest.starts_with(prefix))?;
    let behind = &rest[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = behind.len() - behind.trim_start_matches('#').len();
        let text = behind[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = text.find(&end).map_or(text.len(), |at| at + end.len());
        return Some(rest.len() - text.len() + length);
    }
    let length = match behind.chars().next()? {
        '"' => quoted(behind, '"'),
        '\'' if is_character(behind) => quoted(behind, '\''),
        _ => return None,
    };
    Some(prefix.len() + length)
}

/// Whether a single quote begins a character; else it begins a lifetime.
fn is_character(quote: &str) -> bool {
    let mut inner = quote.chars().skip(1);
    inner.next() == Some('\\') || inner.next() == Some('\'')
}

/// The length of a text up to its closing quote.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<&str> {
        Words::of(source).map(|(_, word)| word).collect()
    }

    #[test]
    fn comments_are_passed_over() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g / h */* i"), ["a", "c", "g", "h"]);
        assert_eq!(words("a /**/ b /***/ c"), ["a", "b", "c"]);
    }

    #[test]
    fn literals_are_passed_over_and_lifetimes_are_not() {
        assert_eq!(words(r#"a "b \" c" d b"e" f"#), ["a", "d", "f"]);
        assert_eq!(words(r###"a r#"b " c"# d r"e\" f br##"g "# h"## i"###), ["a", "d", "f", "i"]);
        assert_eq!(words(r"a '\'' b '\u{61}' c 'd' e '\\' f"), ["a", "b", "c", "e", "f"]);
        assert_eq!(words("'\"' a &'b c, b'd' e"), ["a", "b", "c", "e"]);
        assert_eq!(words("crate r#type break"), ["crate", "r", "type", "break"]);
    }

    #[test]
    fn lines_count_from_one_through_texts_of_many_lines() {
        let lines: Vec<usize> = Words::of("a\n\"b\nc\" d\n/* e\n */ f").map(|(line, _)| line).collect();
        assert_eq!(lines, [1, 3, 5]);
    }
}
