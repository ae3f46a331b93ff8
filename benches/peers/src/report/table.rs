//! A table of one row of work: one line for each side, one column for each number of callers or measure.

use crate::{
    measure::{rounds::Figures, side::Side, spread::Spread},
    peer::Peer,
};

/// The figures of one kind of work.
#[derive(Debug)]
pub struct Table {
    /// The name by which the row is asked for: `redis-hit`.
    pub name: &'static str,
    /// What is measured.
    pub title: String,
    /// The servers that the row ran on, with their versions.
    pub servers: Vec<String>,
    /// The names of the columns, with units.
    pub columns: Vec<String>,
    /// The sides.
    pub lines: Vec<Line>,
}

/// One side of a table.
#[derive(Debug)]
pub struct Line {
    /// The peer.
    pub peer: &'static Peer,
    /// How the peer is used.
    pub usage: String,
    /// The name of the peer whose figures the ratios are to.
    pub raw: &'static str,
    /// The cells, one for each column.
    pub cells: Vec<Cell>,
}

/// One figure of a side.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A median, and the ratio to the raw side in the same rounds.
    Paired {
        /// The median of the rounds.
        median: f64,
        /// The ratios; the raw side itself has none.
        ratio: Option<Spread>,
    },
    /// A figure without a ratio, such as a count.
    Plain(String),
    /// The reason why there is no figure.
    Absent(String),
}

impl Table {
    /// A table without columns.
    pub fn new<T: ?Sized>(name: &'static str, title: impl Into<String>, sides: &[Side<T>]) -> Self {
        let line = |side: &Side<T>| Line {
            peer: side.peer,
            usage: side.usage.clone(),
            raw: sides[side.raw].peer.name,
            cells: Vec::new(),
        };
        Self {
            name,
            title: title.into(),
            servers: Vec::new(),
            columns: Vec::new(),
            lines: sides.iter().map(line).collect(),
        }
    }

    /// Adds a column of figures that are compared with those of the raw side.
    pub fn paired<T: ?Sized>(&mut self, column: impl Into<String>, sides: &[Side<T>], figures: &[Figures]) {
        self.columns.push(column.into());
        for (at, line) in self.lines.iter_mut().enumerate() {
            let raw = sides[at].raw;
            line.cells.push(match &figures[at] {
                Err(reason) => Cell::Absent(reason.clone()),
                Ok(own) => Cell::Paired {
                    median: Spread::of(own.iter().copied()).median,
                    ratio: (raw != at)
                        .then(|| figures[raw].as_deref().ok())
                        .flatten()
                        .map(|raw| Spread::of(own.iter().zip(raw).map(|(own, raw)| own / raw))),
                },
            });
        }
    }

    /// Adds a column of cells, in the order of the sides.
    pub fn cells(&mut self, column: impl Into<String>, cells: Vec<Cell>) {
        self.columns.push(column.into());
        self.lines.iter_mut().zip(cells).for_each(|(line, cell)| line.cells.push(cell));
    }
}

impl Cell {
    /// A plain cell, or the reason why there is none.
    pub fn plain(figure: Result<String, String>) -> Self {
        figure.map_or_else(Self::Absent, Self::Plain)
    }

    /// The text of the cell: the median, and in brackets the ratio.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Paired { median, ratio: Some(ratio) } => {
                format!("{} ({:.2})", digits(*median), ratio.median)
            }
            Self::Paired { median, ratio: None } => digits(*median),
            Self::Plain(text) => text.clone(),
            Self::Absent(reason) => format!("not measured: {reason}"),
        }
    }
}

/// A figure with about three digits.
#[must_use]
pub fn digits(figure: f64) -> String {
    let decimals = match figure {
        0.0 => 0,
        small if small < 1.0 => 3,
        small if small < 10.0 => 2,
        middle if middle < 100.0 => 1,
        _ => 0,
    };
    format!("{figure:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_the_ratios_and_not_the_ratio_of_the_medians() {
        static PEER: Peer = Peer { name: "a", package: "a", leaves_out: "b" };
        let sides = [(); 2].map(|()| Side::new(&PEER, "x", Ok(Box::new(()))));
        let mut table = Table::new("put", "a put", &sides);
        let figures = [Ok(vec![10.0, 20.0, 100.0]), Ok(vec![10.0, 30.0, 200.0])];
        table.paired("1", &sides, &figures);
        assert_eq!(table.lines[0].cells[0].text(), "20.0");
        assert_eq!(table.lines[1].cells[0].text(), "30.0 (1.50)");
    }
}
