//! What the proxy says of itself.

use std::fmt::Write;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use terrace::TierStats;
use terrace_agent::llm::ModelSavings;

use crate::{Proxy, respond::failure};

/// The savings of each model over all processes, and the tiers of this one, as JSON.
pub(crate) async fn stats(State(proxy): State<Proxy>) -> Response {
    match proxy.cache().savings().await {
        Ok(models) => {
            let with_rate = |model: &ModelSavings| {
                let mut json = json!(model);
                json["hit_rate"] = json!(model.hit_rate());
                json
            };
            let models: Vec<_> = models.iter().map(with_rate).collect();
            let body = json!({"models": models, "tiers": tiers(&proxy)});
            json_response(StatusCode::OK, &body)
        }
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, "api_error", &error.to_string()),
    }
}

/// Whether the process serves. A tier that is away makes it slower, and does not stop it.
pub(crate) async fn healthz(State(proxy): State<Proxy>) -> Response {
    json_response(StatusCode::OK, &json!({"status": "ok", "tiers": tiers(&proxy)}))
}

/// The same numbers for Prometheus.
pub(crate) async fn metrics(State(proxy): State<Proxy>) -> Response {
    match proxy.cache().savings().await {
        Ok(models) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], exposition(&models)).into_response()
        }
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, "api_error", &error.to_string()),
    }
}

fn tiers(proxy: &Proxy) -> serde_json::Value {
    let stats = proxy.cache().stats().map(|stats| stats.tiers).unwrap_or_default();
    let tier = |tier: &TierStats| {
        json!({"name": tier.name, "hits": tier.hits, "misses": tier.misses,
        "errors": tier.errors, "lost": tier.lost})
    };
    stats.iter().map(tier).collect()
}

fn json_response(status: StatusCode, body: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// The numbers of a model, each with the kind that its label names.
type Kinds = Vec<(&'static str, Option<f64>)>;

fn exposition(models: &[ModelSavings]) -> String {
    let mut text = String::new();
    let mut family = |name: &str, help: &str, value: &dyn Fn(&ModelSavings) -> Kinds| {
        let _ = writeln!(text, "# HELP terrace_llm_{name} {help}\n# TYPE terrace_llm_{name} counter");
        for model in models {
            let label = model.model.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            for (kind, number) in value(model) {
                let Some(number) = number else { continue };
                let kind = if kind.is_empty() { String::new() } else { format!(",kind=\"{kind}\"") };
                let _ = writeln!(text, "terrace_llm_{name}{{model=\"{label}\"{kind}}} {number}");
            }
        }
    };
    #[allow(clippy::cast_precision_loss, reason = "the numbers of Prometheus are floats")]
    let float = |number: u64| Some(number as f64);
    family("requests_total", "Requests by the way they were answered, in all processes.", &|model| {
        let counts = [("hit", model.hits), ("miss", model.misses), ("joined", model.joined)];
        counts.into_iter().chain([("bypass", model.bypassed)]).map(|(kind, n)| (kind, float(n))).collect()
    });
    family("answers_kept_total", "Answers that were kept.", &|model| vec![("", float(model.writes))]);
    for (name, help, usage) in [
        (
            "tokens_used_total",
            "Tokens that upstream billed.",
            (|m: &ModelSavings| m.used) as fn(&ModelSavings) -> _,
        ),
        ("tokens_avoided_total", "Tokens of answers without a call.", |m: &ModelSavings| m.avoided),
    ] {
        family(name, help, &|model| {
            let usage: terrace_agent::llm::Usage = usage(model);
            let kinds =
                [("input", usage.input), ("cached_input", usage.cached_input), ("output", usage.output)];
            kinds.into_iter().map(|(kind, n)| (kind, float(n))).collect()
        });
    }
    family("money_saved_total", "What the avoided tokens would have cost.", &|model| vec![("", model.saved)]);
    family("money_spent_total", "What the used tokens cost.", &|model| vec![("", model.spent)]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_model_cannot_break_the_exposition() {
        let mut model = ModelSavings::default();
        model.model = "a\"b\\c\nd".to_owned();
        model.hits = 3;
        let text = exposition(&[model]);
        let expected = "terrace_llm_requests_total{model=\"a\\\"b\\\\c\\nd\",kind=\"hit\"} 3\n";
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("money_saved_total{"), "a model without a price has no money");
    }
}
