//! `/livez` and `/readyz`: whether the process runs, and whether work may be sent to it.

use std::fmt::Write;

use actix_web::{HttpRequest, HttpResponse, web};

use super::backend::Backend;

/// Alive as long as it answers at all; a process that should not live on ends itself.
pub async fn livez() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

/// 200 when every check holds, 503 otherwise; `?verbose` lists them.
pub async fn readyz(backend: web::Data<dyn Backend>, request: HttpRequest) -> HttpResponse {
    let readiness = backend.readiness().await;
    let verbose = request.query_string().split('&').any(|part| part == "verbose" || part.starts_with("verbose="));
    let mut text = String::new();
    for check in readiness.checks.iter().filter(|c| verbose || !c.ok) {
        let mark = if check.ok { "+" } else { "-" };
        // Writing to a String does not fail.
        let _ = writeln!(text, "[{mark}] {}: {}", check.name, check.detail);
    }
    text += if readiness.ready { "ready\n" } else { "not ready\n" };
    let mut response = if readiness.ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.content_type("text/plain; charset=utf-8").body(text)
}
