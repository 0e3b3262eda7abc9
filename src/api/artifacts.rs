//! Models and artifacts over HTTP: the ledger's records, and the shelf of this node, read and written by its own people.
//!
//! Bytes go in whole and come out a chunk at a time; a reader checks them by their id. The node's HTTP face is for the
//! machine it runs on, as the rest of it is.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};

use super::error::ApiError;
use super::explorer::{Node, Reply, parsed, told, wrong_method};
use super::gate;

/// The most bytes taken in at once.
pub const PUT_BYTES_MAX: usize = 512 << 20;
/// How long they may take to arrive.
const PUT_TIME: Duration = Duration::from_secs(600);

async fn models(node: Node) -> Reply {
    told(node.model_rows().await)
}

async fn model(node: Node, id: web::Path<String>) -> Reply {
    told(node.model_detail(parsed(&id, "id of a model")?).await)
}

async fn shelf(node: Node) -> Reply {
    told(node.artifacts().await)
}

async fn put(node: Node, request: HttpRequest, payload: web::Payload) -> Reply {
    let bytes = gate::body_within(&request, payload, PUT_BYTES_MAX, PUT_TIME).await?;
    if bytes.is_empty() {
        return Err(ApiError::invalid("the body must be the bytes of the artifact"));
    }
    told(node.put_artifact(bytes.to_vec()).await)
}

async fn artifact(node: Node, id: web::Path<String>) -> Reply {
    told(node.artifact(parsed(&id, "id of an artifact")?).await)
}

async fn pull(node: Node, id: web::Path<String>) -> Reply {
    let report = node.pull_artifact(parsed(&id, "id of an artifact")?).await?;
    Ok(HttpResponse::Accepted().json(report))
}

async fn remove(node: Node, id: web::Path<String>) -> Reply {
    let id = parsed(&id, "id of an artifact")?;
    if node.drop_artifact(id).await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(ApiError::not_found(format!("artifact {id} is not here")))
    }
}

async fn chunk(node: Node, path: web::Path<(String, String)>) -> Reply {
    let (id, index) = path.into_inner();
    let bytes = node.artifact_chunk(parsed(&id, "id of an artifact")?, parsed(&index, "number of a chunk")?).await?;
    Ok(HttpResponse::Ok().content_type("application/octet-stream").body(bytes))
}

pub fn routes(config: &mut web::ServiceConfig) {
    let at = |path: &str| web::resource(path).default_service(web::to(wrong_method));
    config
        .service(at("/models").get(models))
        .service(at("/models/{id}").get(model))
        .service(at("/artifacts").get(shelf).post(put))
        .service(at("/artifacts/{id}").get(artifact).delete(remove))
        .service(at("/artifacts/{id}/pull").post(pull))
        .service(at("/artifacts/{id}/chunks/{index}").get(chunk));
}
