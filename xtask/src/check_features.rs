//! `cargo xtask check-features`: each feature of the facade alone, and none.

use serde_json::Value;

use crate::run::{Result, cargo, run as run_command};

/// Lints the facade with no feature and with each alone; warnings are errors.
pub(crate) fn run() -> Result<()> {
    let features = features()?;
    for feature in [None].into_iter().chain(features.iter().map(|feature| Some(feature.as_str()))) {
        let mut command = cargo(["clippy", "--quiet", "-p", "terrace", "--no-default-features"]);
        command.args(feature.into_iter().flat_map(|feature| ["--features", feature]));
        run_command(command.args(["--", "-D", "warnings"]))?;
    }
    println!("check-features: ok, {} features alone and none", features.len());
    Ok(())
}

/// The features in the manifest of `terrace`, so that a new feature is checked too.
fn features() -> Result<Vec<String>> {
    let output = cargo(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .map_err(|error| format!("cargo metadata could not be run: {error}"))?;
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("cargo metadata gave no JSON: {error}"))?;
    let facade =
        metadata["packages"].as_array().into_iter().flatten().find(|package| package["name"] == "terrace");
    let features = facade.and_then(|facade| facade["features"].as_object()).ok_or("no package `terrace`")?;
    Ok(features.keys().filter(|feature| *feature != "default").cloned().collect())
}
