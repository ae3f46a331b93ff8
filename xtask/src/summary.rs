//! Adds up the results that the test programs print.

use std::fmt;
use std::io::{self, BufRead, Write};

/// The sum over the test programs of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    passed: u64,
    failed: u64,
    ignored: u64,
    programs: u64,
}

impl Summary {
    /// Copies the output of a run to `sink` as it comes, and adds its results up.
    pub(crate) fn of_stream(source: impl BufRead, mut sink: impl Write) -> io::Result<Self> {
        let mut sum = Self::default();
        for line in source.split(b'\n') {
            let line = line?;
            sink.write_all(&line)?;
            sink.write_all(b"\n")?;
            sum.add_line(&String::from_utf8_lossy(&line));
        }
        Ok(sum)
    }

    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    pub(crate) fn ignored(&self) -> u64 {
        self.ignored
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.programs += other.programs;
    }

    /// `test result: ok. 3 passed; 0 failed; 1 ignored; ...`
    fn add_line(&mut self, line: &str) {
        let Some((_verdict, counts)) =
            line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        self.programs += 1;
        for count in counts.split("; ") {
            match count.split_once(' ').map(|(number, what)| (number.parse().unwrap_or(0), what)) {
                Some((number, "passed")) => self.passed += number,
                Some((number, "failed")) => self.failed += number,
                Some((number, "ignored")) => self.ignored += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, ignored, programs } = self;
        write!(f, "{passed} passed, {failed} failed, {ignored} ignored in {programs} test programs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up_and_the_output_is_passed_on() {
        let output = "\
running 4 tests
test a ... ok
test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 5 filtered out; finished in 0.00s
test result: ok. 10 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
";
        let mut seen = Vec::new();
        let sum = Summary::of_stream(output.as_bytes(), &mut seen).unwrap();
        assert_eq!(sum, Summary { passed: 12, failed: 1, ignored: 1, programs: 2 });
        assert_eq!(String::from_utf8(seen).unwrap(), output);
        assert_eq!(sum.to_string(), "12 passed, 1 failed, 1 ignored in 2 test programs");
    }

    #[test]
    fn lines_that_only_look_alike_do_not_count() {
        let output = "a test result: ok. 2 passed; 0 failed\ntest result of mine\n";
        let sum = Summary::of_stream(output.as_bytes(), io::sink()).unwrap();
        assert_eq!(sum, Summary::default());
    }
}
