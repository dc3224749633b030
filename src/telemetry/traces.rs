//! Exports traces to an OpenTelemetry collector, when one is configured.
//!
//! A separate thread exports spans in batches. The queue is bounded: when the collector is unreachable, spans
//! are dropped. Only the end of the process waits for the exporter.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use axum::http::HeaderMap;
use opentelemetry::{
    KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::TracerProvider,
};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::{Metadata, Span, Subscriber, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{filter::filter_fn, layer::Layer, registry::LookupSpan};

use super::TelemetryError;
use super::settings::TracesConfig;
use crate::lifecycle::ErrorChain;

/// Timeout of one export and of the final export at shutdown.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a collector is configured. Without one, fields that only traces use are not recorded.
static ENABLED: AtomicBool = AtomicBool::new(false);

/// Guard of the exporter. [`finish`](Self::finish) sends the remaining spans.
#[must_use = "the last traces are sent when this is finished"]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    pub(super) const fn disabled() -> Self {
        Self(None)
    }

    /// Creates the exporter and the layer that records spans.
    pub(super) fn start<S>(
        endpoint: &str,
        config: &TracesConfig,
    ) -> Result<(Self, impl Layer<S>), TelemetryError>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        rustls::crypto::ring::default_provider().install_default().ok();
        let headers = config.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_headers(headers.collect::<HashMap<_, _>>())
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        let resource = Resource::builder()
            .with_service_name(config.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio))))
            .with_resource(resource)
            .build();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("rollcall"))
            .with_filter(filter_fn(is_traced).with_max_level_hint(LevelFilter::DEBUG));
        ENABLED.store(true, Ordering::Relaxed);
        Ok((Self(Some(provider)), layer))
    }

    /// Exports the remaining spans. Blocks, so it must not run inside a runtime.
    pub fn finish(self) {
        let Some(provider) = self.0 else { return };
        if let Err(error) = provider.shutdown_with_timeout(EXPORT_TIMEOUT) {
            tracing::warn!(error = %ErrorChain(&error), "final trace export failed");
        }
    }
}

/// Whether a span or event is exported: the server's own spans, and its events of level WARN or above.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    let is_rollcall = metadata.target().starts_with("rollcall");
    is_rollcall && (metadata.is_span() || *metadata.level() <= LevelFilter::WARN)
}

/// Makes the caller's trace the parent of a request span and sets the fields that collectors expect.
pub fn set_remote_parent(span: &Span, headers: &HeaderMap, method: &str, route: &str) {
    if !ENABLED.load(Ordering::Relaxed) {
        return;
    }
    span.record("otel.name", format!("{method} {route}"));
    span.record("otel.kind", "server");
    let caller = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    // Fails when the span is not sampled; then it needs no parent.
    let _ = span.set_parent(caller);
}

/// Sets the error status of a request span.
pub fn mark_failed(span: &Span) {
    if ENABLED.load(Ordering::Relaxed) {
        span.record("otel.status_code", "ERROR");
    }
}

struct HeaderExtractor<'a>(&'a HeaderMap);

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}
