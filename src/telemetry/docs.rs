//! `docs/reference/metrics.md`, generated from the metrics.

use std::{fmt::Write as _, fs};

use testkit::pages::{assert_current, files};

use super::metric::{self, Kind};

const PATH: &str = "docs/reference/metrics.md";
const INTRODUCTION: &str = "\
# Metrics

<!-- Generated from the metrics. Change src/telemetry/metric.rs, then run:
     UPDATE_DOCS=1 cargo test --lib telemetry -->

`GET /metrics` returns these metrics in the text format of Prometheus. Who may read them is in \
[Operations](../operations.md#monitoring), what to do when one rises in [Runbook](../operations/runbook.md).

Counters exist from the start with the value 0, except those whose label values depend on use; these are marked with \
\"any\". A histogram appears with its first sample, as `_bucket`, `_sum` and `_count`. Metrics of the hub are per shard; \
sum them.

| metric | kind | unit | labels | meaning |
| --- | --- | --- | --- | --- |
";

#[test]
fn metrics_page_is_current() {
    assert_current(PATH, &render(), "--lib telemetry");
}

#[test]
fn names_follow_the_convention_and_meanings_are_sentences() {
    for metric in metric::ALL {
        let name = metric.name;
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        let unit = match metric.unit {
            metrics::Unit::Seconds => "seconds",
            metrics::Unit::Bytes => "bytes",
            _ => "",
        };
        assert!(name.contains(unit), "{name}");
        assert!(metric.meaning.split_whitespace().count() >= 4 && metric.meaning.ends_with('.'), "{name}");
    }
    let mut names: Vec<_> = metric::ALL.iter().map(|metric| metric.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), metric::ALL.len());
}

/// Every name of a metric in the code is that of a constant: no macro is called with a text.
#[test]
fn code_names_metrics_by_their_constants() {
    let mut found = Vec::new();
    for path in files("src", "rs") {
        let text = fs::read_to_string(&path).expect("a text");
        for kind in ["counter", "gauge", "histogram"] {
            if text.contains(&format!("{kind}!(\"")) {
                found.push(path.display().to_string());
            }
        }
    }
    assert!(found.is_empty(), "metrics that are not in src/telemetry/metric.rs: {found:?}");
}

fn render() -> String {
    let mut page = INTRODUCTION.to_owned();
    for metric in metric::ALL {
        let kind = match metric.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        let unit = match metric.unit {
            metrics::Unit::Seconds => "seconds",
            metrics::Unit::Bytes => "bytes",
            _ => "count",
        };
        let labels = metric.labels.iter().map(|(label, values)| {
            let values = if values.is_empty() { "any".to_owned() } else { values.join(", ") };
            format!("`{label}`: {values}")
        });
        let labels = labels.collect::<Vec<_>>().join("; ");
        let _ =
            writeln!(page, "| `{}` | {kind} | {unit} | {labels} | {} |", metric.name, metric.meaning.trim());
    }
    page
}
