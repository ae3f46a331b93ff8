//! The suites that every tier and every policy of terrace passes; faulty and recording tiers.
