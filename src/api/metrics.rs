//! `/metrics`: the page Prometheus reads, made by whoever holds the recorder.

use std::fmt;
use std::sync::Arc;

use actix_web::{HttpResponse, web};

/// Renders the page. The composition root knows both registries, ours and libp2p's; the face knows neither.
#[derive(Clone)]
pub struct MetricsPage(Arc<dyn Fn() -> String + Send + Sync>);

impl MetricsPage {
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(render))
    }
}

impl fmt::Debug for MetricsPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricsPage")
    }
}

pub async fn page(metrics: web::Data<MetricsPage>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body((metrics.0)())
}
