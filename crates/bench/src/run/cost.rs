//! What a run costs, from prices that the user gives.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A price: `load=0.00002` for one load, or `redis=0.02` for a GB (10^9 bytes) of a tier in an hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Price {
    /// `load`, or the name of a tier.
    of: String,
    /// The price in any currency.
    price: f64,
}

impl FromStr for Price {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (of, price) = text.split_once('=').ok_or("a price is load=0.00002 or redis=0.02")?;
        let price: f64 = price.parse().map_err(|error| format!("{price}: {error}"))?;
        let known = ["load", "memory", "redis", "postgres", "sqlite"];
        if !known.contains(&of) || !price.is_finite() || price < 0.0 {
            return Err(format!("{text}: a price is a number from 0 of one of {}", known.join(", ")));
        }
        Ok(Self { of: of.to_owned(), price })
    }
}

/// One part of the sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CostPart {
    /// `load`, or the name of a tier.
    pub(crate) of: String,
    /// The number of loads, or the bytes of the tier. `None` if the bytes are not known.
    pub(crate) quantity: Option<u64>,
    /// The price of the part.
    pub(crate) cost: f64,
}

/// The costs of a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// The time that the bytes are paid for, in hours.
    pub(crate) hours: f64,
    /// What was added up.
    pub(crate) parts: Vec<CostPart>,
    /// The sum of the known parts.
    pub(crate) sum: f64,
}

impl Cost {
    /// The costs of so many loads, and of tiers with so many bytes for so many hours.
    pub(crate) fn of(
        prices: &[Price],
        loads: u64,
        bytes: &[(String, Option<u64>)],
        hours: f64,
    ) -> Option<Self> {
        let parts: Vec<CostPart> = prices
            .iter()
            .filter_map(|price| {
                if price.of == "load" {
                    let cost = loads as f64 * price.price;
                    return Some(CostPart { of: price.of.clone(), quantity: Some(loads), cost });
                }
                let (_, bytes) = bytes.iter().find(|(tier, _)| *tier == price.of)?;
                let cost = bytes.unwrap_or(0) as f64 / 1e9 * hours * price.price;
                Some(CostPart { of: price.of.clone(), quantity: *bytes, cost })
            })
            .collect();
        let sum = parts.iter().map(|part| part.cost).sum();
        (!prices.is_empty()).then_some(Self { hours, parts, sum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_loads_and_gigabyte_hours() {
        let prices: Vec<Price> = ["load=0.002", "redis=0.05", "sqlite=1", "postgres=3"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let bytes = [("redis".to_owned(), Some(500_000_000)), ("postgres".to_owned(), None)];
        let cost = Cost::of(&prices, 1_000, &bytes, 2.0).unwrap();
        // 1,000 x 0.002, and 0.5 GB x 2 h x 0.05.
        assert!((cost.sum - 2.05).abs() < 1e-12, "{cost:?}");
        assert_eq!(cost.parts.len(), 3);
        assert_eq!(cost.parts[2].quantity, None);
        assert_eq!(Cost::of(&[], 1, &[], 1.0), None);
        for wrong in ["load", "load=-1", "disk=1", "redis=x"] {
            assert!(wrong.parse::<Price>().is_err(), "{wrong}");
        }
    }
}
