//! The generated section of a document: a head, and a part for each row, which a run replaces where it has measured
//! anew.

const BEGIN: &str = "<!-- bench-peers: generated from here on by `cargo xtask bench-peers` -->";
const END: &str = "<!-- bench-peers: end of the generated section -->";
const PART: &str = "<!-- bench-peers row: ";
const PART_END: &str = " -->\n";

/// The document with one part anew. Other parts, their order and all that is outside of the section stay; without
/// a new head the old one stays.
pub(crate) fn with_part(document: &str, head: Option<&str>, name: &str, text: &str) -> String {
    let (before, section, after) = split(document);
    let (old_head, mut parts) = parts_of(section);
    let new = (name, text.trim());
    match parts.iter_mut().find(|(part, _)| *part == name) {
        Some(part) => *part = new,
        None => parts.push(new),
    }
    let mut all = format!("{}\n\n{BEGIN}\n\n{}\n", before.trim_end(), head.unwrap_or(old_head).trim());
    for (name, text) in parts {
        all += &format!("\n{PART}{name}{PART_END}\n{text}\n");
    }
    let after = after.trim_start();
    all + "\n" + END + "\n" + if after.is_empty() { "" } else { "\n" } + after
}

/// What is before the section, in it and after it.
fn split(document: &str) -> (&str, &str, &str) {
    let Some((before, rest)) = document.split_once(BEGIN) else { return (document, "", "") };
    let (section, after) = rest.split_once(END).unwrap_or((rest, ""));
    (before, section, after)
}

/// The head of a section, and its parts: names and texts.
fn parts_of(section: &str) -> (&str, Vec<(&str, &str)>) {
    let mut pieces = section.split(PART);
    let head = pieces.next().unwrap_or_default();
    let parts = pieces.filter_map(|piece| piece.split_once(PART_END));
    (head, parts.map(|(name, text)| (name, text.trim())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_replaces_the_rows_that_it_measured_and_nothing_else() {
        let first = with_part("# Benchmarks\n\nBy hand.\n", Some("Head 1."), "put", "put 1");
        let second = with_part(&(first + "\n## After\n"), Some("Head 2."), "miss", "miss 2");
        let third = with_part(&second, None, "put", "put 3\n");
        assert!(third.starts_with("# Benchmarks\n\nBy hand.\n"), "{third}");
        assert!(third.ends_with("\n## After\n"), "{third}");
        let at = |text: &str| third.find(text).unwrap();
        assert!(at("Head 2.") < at("put 3") && at("put 3") < at("miss 2"), "{third}");
        assert!(!third.contains("put 1") && !third.contains("Head 1."), "{third}");
        assert_eq!(third, with_part(&third, None, "put", "put 3"));
    }
}
