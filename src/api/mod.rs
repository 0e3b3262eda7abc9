//! The HTTP face: what curl, browsers, scrapers and OpenAI clients see of a node.
//!
//! Two servers share this room. Every node serves health, metrics and the explorer's JSON; a gateway also serves the
//! OpenAI shapes. Both only ask (`Backend`); no handler keeps state of its own beyond limits on what it lets in. Every
//! error, a wrong path included, is JSON in the OpenAI shape and carries `x-request-id`.

pub mod artifacts;
pub mod backend;
pub mod dev;
pub mod error;
pub mod explorer;
pub mod gate;
pub mod health;
pub mod metrics;
pub mod native;
pub mod openai;
pub mod shapes;
pub mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpServer, ResponseError, web};

pub use backend::{AnswerStream, Backend, Frame, QueryError, QueryFault, ReadError, Served, SubmitError};
pub use metrics::MetricsPage;
pub use openai::{Gateway, GatewayParams};

const CONNECTIONS_MAX: usize = 1_024;
/// Time for requests in flight when a server is told to stop.
const STOP_SECONDS: u64 = 3;

/// A server that listens; it serves once it is awaited or spawned.
pub struct Bound {
    pub server: Server,
    /// As bound: the port is chosen by the system when 0 was asked for.
    pub address: SocketAddr,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bound({})", self.address)
    }
}

/// The routes of every node.
pub fn node_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/").get(explorer::index))
        .service(web::resource("/livez").get(health::livez))
        .service(web::resource("/readyz").get(health::readyz))
        .service(web::resource("/metrics").get(metrics::page))
        .service(web::scope("/api/v1/dev").configure(dev::routes))
        .service(web::scope("/api/v1").configure(explorer::routes).configure(artifacts::routes))
        .default_service(web::to(explorer::wrong_path));
}

/// The routes of a gateway.
pub fn gateway_routes(config: &mut web::ServiceConfig) {
    let resource = |path: &str| web::resource(path).default_service(web::to(explorer::wrong_method));
    config
        .service(
            web::scope("/v1")
                .wrap(from_fn(known_callers))
                .service(resource("/models").get(openai::models))
                .service(resource("/models/{id}").get(openai::model))
                .service(resource("/completions").post(openai::completions))
                .service(resource("/chat/completions").post(openai::chat))
                .service(resource("/query/{subnet}").post(native::query))
                .default_service(web::to(explorer::wrong_path)),
        )
        .service(web::resource("/livez").get(health::livez))
        .service(web::resource("/readyz").get(health::readyz))
        .default_service(web::to(explorer::wrong_path));
}

async fn known_callers(
    shared: web::Data<Gateway>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse, actix_web::Error> {
    match shared.gate.known(request.request()) {
        Ok(()) => next.call(request).await.map(ServiceResponse::map_into_boxed_body),
        Err(error) => Ok(request.into_response(error.error_response())),
    }
}

/// Gives every response of a gateway a name, errors and wrong paths too.
async fn named(
    shared: web::Data<Gateway>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse, actix_web::Error> {
    let header = HeaderName::from_static("x-request-id");
    let mut response = next.call(request).await?.map_into_boxed_body();
    if !response.headers().contains_key(&header)
        && let Ok(value) = HeaderValue::from_str(&shared.request_id().short())
    {
        response.headers_mut().insert(header, value);
    }
    Ok(response)
}

/// Listens for health, metrics and the explorer.
///
/// # Errors
/// The address cannot be bound; the error names it.
pub fn bind_node(bind: SocketAddr, backend: Arc<dyn Backend>, page: MetricsPage) -> io::Result<Bound> {
    let (backend, page) = (web::Data::from(backend), web::Data::new(page));
    let server =
        HttpServer::new(move || App::new().app_data(backend.clone()).app_data(page.clone()).configure(node_routes));
    listen(bind, |at| {
        let bound = server
            .workers(1)
            .max_connections(CONNECTIONS_MAX)
            .client_request_timeout(Duration::from_secs(5))
            .shutdown_timeout(STOP_SECONDS)
            .disable_signals()
            .bind(at)?;
        Ok((bound.addrs(), bound.run()))
    })
}

/// Listens for OpenAI clients.
///
/// # Errors
/// The address cannot be bound; the error names it.
pub fn bind_gateway(bind: SocketAddr, backend: Arc<dyn Backend>, params: GatewayParams) -> io::Result<Bound> {
    let (backend, shared) = (web::Data::from(backend), web::Data::new(Gateway::new(params)));
    let server = HttpServer::new(move || {
        App::new().app_data(backend.clone()).app_data(shared.clone()).wrap(from_fn(named)).configure(gateway_routes)
    });
    listen(bind, |at| {
        let bound = server
            .workers(2)
            .max_connections(CONNECTIONS_MAX)
            .client_request_timeout(Duration::from_secs(5))
            .shutdown_timeout(STOP_SECONDS)
            .disable_signals()
            .bind(at)?;
        Ok((bound.addrs(), bound.run()))
    })
}

fn listen(at: SocketAddr, bind: impl FnOnce(SocketAddr) -> io::Result<(Vec<SocketAddr>, Server)>) -> io::Result<Bound> {
    let (addresses, server) = bind(at).map_err(|e| io::Error::new(e.kind(), format!("{at}: {e}")))?;
    Ok(Bound { server, address: addresses.first().copied().unwrap_or(at) })
}

#[cfg(test)]
mod tests;
