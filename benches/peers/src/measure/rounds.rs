//! Rounds, in which each side takes one turn.

use super::{effort::Effort, side::Side};
use crate::Result;

/// The figures of a side, one for each round, or why there are none.
pub type Figures = Result<Vec<f64>, String>;

/// The order of the sides in a round. It looks random, so that each side follows each other one, and is the
/// same in each run.
#[must_use]
pub fn order(sides: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sides).collect();
    fastrand::Rng::with_seed(round as u64 + 1).shuffle(&mut order);
    order
}

/// Runs all rounds, after one that is not counted. A side that fails takes no more turns, in later columns
/// either.
pub async fn rounds<T: ?Sized, F>(
    sides: &mut [Side<T>],
    effort: Effort,
    mut turn: impl AsyncFnMut(&T, usize) -> Result<F>,
) -> Vec<Result<Vec<F>, String>> {
    let count = sides.len();
    let mut figures: Vec<Vec<F>> = (0..count).map(|_| Vec::with_capacity(effort.rounds)).collect();
    for round in 0..=effort.rounds {
        for at in order(count, round) {
            let side = &mut sides[at];
            let Ok(turns) = &side.state else { continue };
            match turn(&**turns, round * count + at).await {
                Ok(_) if round == 0 => {}
                Ok(figure) => figures[at].push(figure),
                Err(error) => side.state = Err(error.to_string()),
            }
        }
    }
    let of_side = |(side, figures): (&Side<T>, Vec<F>)| match &side.state {
        Ok(_) => Ok(figures),
        Err(error) => Err(error.clone()),
    };
    sides.iter().zip(figures).map(of_side).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Peer;

    static PEER: Peer = Peer { name: "a", package: "a", leaves_out: "b" };

    #[test]
    fn each_side_has_one_turn_in_a_round() {
        let mut turns = order(5, 3);
        turns.sort_unstable();
        assert_eq!(turns, [0, 1, 2, 3, 4]);
        assert_ne!(order(5, 1), order(5, 2));
    }

    #[tokio::test]
    async fn a_side_that_fails_says_why_and_the_others_go_on() {
        let side = |figure: f64| Side::new(&PEER, "x", Ok(Box::new(figure)));
        let mut sides = [side(2.0), side(-1.0), Side::new(&PEER, "x", Err("not there".into()))];
        let turn = async |figure: &f64, _| if *figure < 0.0 { Err("no".into()) } else { Ok(*figure) };
        let figures = rounds(&mut sides, Effort { rounds: 2, quick: true }, turn).await;
        assert_eq!(figures, [Ok(vec![2.0, 2.0]), Err("no".to_owned()), Err("not there".to_owned())]);
    }
}
