//! `/api/v1`: what this node knows, as JSON: the data that the command line prints.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::backend::{Backend, ReadError};
use super::error::ApiError;
use super::gate;
use crate::protocol::ids::{MemberId, SubnetId};
use crate::protocol::transaction::TRANSACTION_BYTES_MAX;

pub(super) type Node = web::Data<dyn Backend>;
pub(super) type Reply = Result<HttpResponse, ApiError>;

pub(super) fn told<T: Serialize>(read: Result<T, ReadError>) -> Reply {
    Ok(HttpResponse::Ok().json(read?))
}

pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str, what: &str) -> Result<T, ApiError> {
    text.parse().map_err(|e| ApiError::invalid(format!("\"{text}\" is no {what}: {e}")))
}

/// A subnet by its number, else by its name.
///
/// # Errors
/// 404 when there is none.
pub(super) async fn subnet_id(node: &dyn Backend, text: &str) -> Result<SubnetId, ApiError> {
    if let Ok(number) = text.parse() {
        return Ok(SubnetId(number));
    }
    let subnets = node.subnets().await?;
    let found = subnets.iter().find(|s| s.name == text).map(|s| s.id);
    found.ok_or_else(|| {
        let names: Vec<&str> = subnets.iter().map(|s| s.name.as_str()).collect();
        ApiError::not_found(format!("there is no subnet \"{text}\"; there are: {}", names.join(", ")))
    })
}

async fn status(node: Node) -> Reply {
    told(node.status().await)
}

async fn head(node: Node) -> Reply {
    told(node.head().await)
}

async fn checkpoint(node: Node, height: web::Path<String>) -> Reply {
    told(node.checkpoint(parsed(&height, "height")?).await)
}

async fn transaction(node: Node, id: web::Path<String>) -> Reply {
    told(node.transaction(parsed(&id, "id of a transaction")?).await)
}

async fn account(node: Node, id: web::Path<String>) -> Reply {
    told(node.account(parsed(&id, "id of an account")?).await)
}

async fn stake(node: Node, id: web::Path<String>) -> Reply {
    told(node.stake(parsed(&id, "id of an account")?).await)
}

/// Which heights a statement is wanted of.
#[derive(serde::Deserialize)]
struct Heights {
    from: Option<u64>,
    to: Option<u64>,
}

async fn statement(node: Node, id: web::Path<String>, heights: web::Query<Heights>) -> Reply {
    let account = parsed(&id, "id of an account")?;
    told(node.statement(account, heights.from.unwrap_or(0), heights.to.unwrap_or(u64::MAX)).await)
}

async fn line_proof(node: Node, path: web::Path<(String, String, String)>) -> Reply {
    let (_, height, index) = path.into_inner();
    told(node.line_proof(parsed(&height, "height")?, parsed(&index, "number of a line")?).await)
}

async fn fees(node: Node) -> Reply {
    told(node.fees().await)
}

async fn committee(node: Node) -> Reply {
    told(node.committee().await)
}

async fn supply(node: Node) -> Reply {
    told(node.supply().await)
}

async fn subnets(node: Node) -> Reply {
    told(node.subnets().await)
}

async fn subnet(node: Node, name: web::Path<String>) -> Reply {
    let id = subnet_id(node.get_ref(), &name).await?;
    told(node.subnet(id).await)
}

async fn standing(node: Node, name: web::Path<String>) -> Reply {
    let id = subnet_id(node.get_ref(), &name).await?;
    told(node.standing(id).await)
}

async fn budget(node: Node) -> Reply {
    told(node.budget().await)
}

async fn metagraph(node: Node, name: web::Path<String>) -> Reply {
    let id = subnet_id(node.get_ref(), &name).await?;
    told(node.metagraph(id).await)
}

async fn weights(node: Node, name: web::Path<String>) -> Reply {
    let id = subnet_id(node.get_ref(), &name).await?;
    told(node.weights(id).await)
}

/// What a person may add to a path.
#[derive(Deserialize)]
struct Wanted {
    epochs: Option<u64>,
    validator: Option<u32>,
    account: Option<String>,
}

async fn history(node: Node, name: web::Path<String>, wanted: web::Query<Wanted>) -> Reply {
    let id = subnet_id(node.get_ref(), &name).await?;
    told(node.history(id, wanted.epochs.unwrap_or(8)).await)
}

async fn replay(node: Node, path: web::Path<(String, String)>, wanted: web::Query<Wanted>) -> Reply {
    let (name, epoch) = path.into_inner();
    let id = subnet_id(node.get_ref(), &name).await?;
    told(node.replay(id, parsed(&epoch, "epoch")?, wanted.validator.map(MemberId)).await)
}

/// Which epoch, and whether the validators' logs are fetched: yes, unless it says no.
#[derive(Deserialize)]
struct Explained {
    epoch: Option<u64>,
    logs: Option<bool>,
}

async fn why(node: Node, path: web::Path<(String, String)>, wanted: web::Query<Explained>) -> Reply {
    let (name, member) = path.into_inner();
    let id = subnet_id(node.get_ref(), &name).await?;
    let member = MemberId(parsed(&member, "number of a member")?);
    told(node.why(id, member, wanted.epoch, wanted.logs.unwrap_or(true)).await)
}

async fn duties(node: Node, wanted: web::Query<Wanted>) -> Reply {
    let account = wanted.account.as_deref().map(|text| parsed(text, "id of an account")).transpose()?;
    told(node.duties(account).await)
}

async fn peers(node: Node) -> Reply {
    told(node.peers().await)
}

async fn miner(node: Node) -> Reply {
    told(node.miner().await)
}

/// The signed bytes of one transaction, as the body. 202: taken into the pool, not final yet.
async fn submit(node: Node, request: HttpRequest, payload: web::Payload) -> Reply {
    let bytes = gate::body(&request, payload, TRANSACTION_BYTES_MAX).await?;
    if bytes.is_empty() {
        return Err(ApiError::invalid("the body must be the bytes of one signed transaction"));
    }
    let report = node.submit(bytes.to_vec()).await?;
    Ok(HttpResponse::Accepted().json(report))
}

/// A short way in for whoever opens the address in a browser.
pub(super) async fn index() -> HttpResponse {
    let text = "A starling node.\n\n/livez  /readyz?verbose  /metrics\n/api/v1/status  head  checkpoint/{height}  tx/{id}  \
                account/{id}  accounts/{id}/stake  \
                accounts/{id}/statement  fees\n/api/v1/committee  supply  budget  subnets  subnets/{name}  subnets/{name}/metagraph  \
                subnets/{name}/standing  \
                subnets/{name}/why/{member}  \
                weights/{name}  weights/{name}/history  replay/{name}/{epoch}  duties  peers  miner\n/api/v1/models  \
                models/{id}  artifacts  artifacts/{id}\n";
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text)
}

pub fn routes(config: &mut web::ServiceConfig) {
    let get = |path: &str| web::resource(path).default_service(web::to(wrong_method));
    config
        .service(get("/status").get(status))
        .service(get("/head").get(head))
        .service(get("/checkpoint/{height}").get(checkpoint))
        .service(web::resource("/tx").post(submit).default_service(web::to(wrong_method)))
        .service(get("/tx/{id}").get(transaction))
        .service(get("/account/{id}").get(account))
        .service(get("/accounts/{id}/stake").get(stake))
        .service(get("/accounts/{id}/statement").get(statement))
        .service(get("/accounts/{id}/statement/{height}/{index}").get(line_proof))
        .service(get("/fees").get(fees))
        .service(get("/committee").get(committee))
        .service(get("/supply").get(supply))
        .service(get("/budget").get(budget))
        .service(get("/subnets").get(subnets))
        .service(get("/subnets/{name}").get(subnet))
        .service(get("/subnets/{name}/metagraph").get(metagraph))
        .service(get("/subnets/{name}/standing").get(standing))
        .service(get("/subnets/{name}/why/{member}").get(why))
        .service(get("/weights/{name}").get(weights))
        .service(get("/weights/{name}/history").get(history))
        .service(get("/replay/{name}/{epoch}").get(replay))
        .service(get("/duties").get(duties))
        .service(get("/peers").get(peers))
        .service(get("/miner").get(miner));
}

pub(super) async fn wrong_method() -> Reply {
    Err(ApiError::method())
}

pub(super) async fn wrong_path(request: HttpRequest) -> Reply {
    Err(ApiError::not_found(format!("there is nothing at {}", request.path())))
}
