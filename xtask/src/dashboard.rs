//! `cargo xtask dashboard`: writes the dashboard for Grafana from the list of its panels.

use serde_json::{Value, json};

use crate::run::{Result, root};

/// A panel: its title, the unit of its axis, and the queries with the names of their curves.
struct Panel {
    title: &'static str,
    unit: &'static str,
    queries: &'static [(&'static str, &'static str)],
}

const PANELS: &[Panel] = &[
    Panel {
        title: "Reads by tier and outcome",
        unit: "reqps",
        queries: &[(
            "{{tier}} {{outcome}}",
            r#"sum by (tier, outcome) (rate(terrace_reads_total{cache=~"$cache"}[$__rate_interval]))"#,
        )],
    },
    Panel {
        title: "Hit ratio of each tier",
        unit: "percentunit",
        queries: &[(
            "{{cache}} {{tier}}",
            r#"sum by (cache, tier) (rate(terrace_reads_total{cache=~"$cache",outcome="hit"}[$__rate_interval])) / sum by (cache, tier) (rate(terrace_reads_total{cache=~"$cache"}[$__rate_interval]))"#,
        )],
    },
    Panel {
        title: "Loads by outcome",
        unit: "reqps",
        queries: &[(
            "{{cache}} {{outcome}}",
            r#"sum by (cache, outcome) (rate(terrace_loads_total{cache=~"$cache"}[$__rate_interval]))"#,
        )],
    },
    Panel {
        title: "Time of loads",
        unit: "s",
        queries: &[
            (
                "{{cache}} p50",
                r#"histogram_quantile(0.5, sum by (cache, le) (rate(terrace_load_duration_seconds_bucket{cache=~"$cache"}[$__rate_interval])))"#,
            ),
            (
                "{{cache}} p99",
                r#"histogram_quantile(0.99, sum by (cache, le) (rate(terrace_load_duration_seconds_bucket{cache=~"$cache"}[$__rate_interval])))"#,
            ),
        ],
    },
    Panel {
        title: "Time of calls, p99",
        unit: "s",
        queries: &[(
            "{{tier}} {{outcome}}",
            r#"histogram_quantile(0.99, sum by (tier, outcome, le) (rate(terrace_call_duration_seconds_bucket{cache=~"$cache"}[$__rate_interval])))"#,
        )],
    },
    Panel {
        title: "Tiers in use",
        unit: "none",
        queries: &[("{{cache}} {{tier}}", r#"min by (cache, tier) (terrace_tier_up{cache=~"$cache"})"#)],
    },
    Panel {
        title: "Changes not confirmed",
        unit: "none",
        queries: &[(
            "{{cache}} {{tier}}",
            r#"sum by (cache, tier) (terrace_pending_invalidations{cache=~"$cache"})"#,
        )],
    },
    Panel {
        title: "Shared work and stale answers",
        unit: "reqps",
        queries: &[
            (
                "{{cache}} coalesced",
                r#"sum by (cache) (rate(terrace_coalesced_total{cache=~"$cache"}[$__rate_interval]))"#,
            ),
            (
                "{{cache}} stale",
                r#"sum by (cache) (rate(terrace_stale_served_total{cache=~"$cache"}[$__rate_interval]))"#,
            ),
        ],
    },
    Panel {
        title: "Near entries",
        unit: "none",
        queries: &[("{{cache}}", r#"sum by (cache) (terrace_near_entries{cache=~"$cache"})"#)],
    },
    Panel {
        title: "Seconds of loads saved",
        unit: "s",
        queries: &[("{{cache}}", r#"sum by (cache) (terrace_load_seconds_saved{cache=~"$cache"})"#)],
    },
    Panel {
        title: "Age of the log and lag of the relay",
        unit: "s",
        queries: &[
            ("{{cache}} log", r#"max by (cache) (terrace_log_age_seconds{cache=~"$cache"})"#),
            ("{{cache}} relay", r#"max by (cache) (terrace_relay_lag_seconds{cache=~"$cache"})"#),
        ],
    },
    Panel {
        title: "Work under way",
        unit: "none",
        queries: &[(
            "{{cache}} {{queue}}",
            r#"sum by (cache, queue) (terrace_queue_depth{cache=~"$cache"})"#,
        )],
    },
];

const FILE: &str = "deploy/dashboard.json";

pub(crate) fn run() -> Result<()> {
    std::fs::write(root().join(FILE), text()).map_err(|error| format!("{FILE}: {error}"))?;
    println!("wrote {FILE}");
    Ok(())
}

fn text() -> String {
    let panels: Vec<Value> = PANELS.iter().enumerate().map(|(at, panel)| panel.json(at)).collect();
    let cache = json!({
        "name": "cache", "label": "Cache", "type": "query", "includeAll": true, "multi": true,
        "datasource": { "type": "prometheus", "uid": "${datasource}" },
        "query": "label_values(terrace_reads_total, cache)", "refresh": 2,
    });
    let datasource = json!({ "name": "datasource", "type": "datasource", "query": "prometheus" });
    let dashboard = json!({
        "title": "terrace", "uid": "terrace", "schemaVersion": 38, "refresh": "30s",
        "time": { "from": "now-1h", "to": "now" },
        "templating": { "list": [datasource, cache] },
        "panels": panels,
    });
    format!("{dashboard:#}\n")
}

impl Panel {
    /// The panel at this place of a grid with two panels a row.
    fn json(&self, at: usize) -> Value {
        let targets: Vec<Value> = self
            .queries
            .iter()
            .zip('A'..)
            .map(|((legend, query), id)| json!({ "refId": id, "expr": query, "legendFormat": legend }))
            .collect();
        json!({
            "id": at + 1, "type": "timeseries", "title": self.title,
            "datasource": { "type": "prometheus", "uid": "${datasource}" },
            "gridPos": { "h": 8, "w": 12, "x": at % 2 * 12, "y": at / 2 * 8 },
            "fieldConfig": { "defaults": { "unit": self.unit } },
            "targets": targets,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_what_the_list_gives() {
        let written = std::fs::read_to_string(root().join(FILE)).unwrap();
        assert!(written == text(), "run `cargo xtask dashboard`");
    }
}
