//! Judges a recording again, and shows why it fails.

use std::path::Path;

use crate::{
    decided::Decided,
    real::{Recording, judge},
    story::story,
};

/// Lines of the story that are printed before the violation, and after it.
const BEFORE: usize = 40;
const AFTER: usize = 5;

/// Judges a recording and prints the story of the first violation. Returns whether there is none.
pub(crate) fn check(file: &Path) -> Result<bool, terrace::BoxError> {
    let recording = Recording::load(file)?;
    let judged = judge(&recording);
    println!("\n{}: {}, {} reads checked", file.display(), recording.plan.stack, judged.reads);
    if let Some(first) = judged.violations.first() {
        println!("what happened to key {}:", first.key);
        let lines = story(&judged.history, first.key);
        let wrong = lines.partition_point(|(at, _)| *at <= first.at);
        let told = wrong.saturating_sub(BEFORE)..lines.len().min(wrong + AFTER);
        lines[told].iter().for_each(|(at, line)| println!("  {at}  {line}"));
    }
    judged.violations.iter().take(20).for_each(|violation| println!("VIOLATION {violation}"));
    let decided = judged.decided.unwrap_or_default();
    println!("{} violations, {decided} keys undecided", judged.violations.len());
    Ok(judged.violations.is_empty() && !judged.decided.is_some_and(Decided::is_nothing))
}
