//! The operations on keys, and on all of them.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query as Parameters, State};
use axum::response::Response;
use axum::routing::{any, get, post};
use serde::de::DeserializeOwned;

use super::api::{App, Body, Shared};
use super::json::{CasBody, FunctionBody, IncrementBody, InsertBody, PutBody, ValueBody};
use super::query::{EXPECTED, Query};
use crate::core::{Op, Request, Scalar};

type Key = Result<Path<String>, PathRejection>;
type Asked = Result<Parameters<Query>, QueryRejection>;
type Refused = Box<Response>;

/// The routes of the operations.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/kv", get(read_all))
        .route("/v1/kv/", any(no_key))
        .route("/v1/kv/{key}", get(read).put(write).delete(delete))
        .route("/v1/kv/{key}/cas", post(cas))
        .route("/v1/kv/{key}/append", post(append))
        .route("/v1/kv/{key}/add", post(add))
        .route("/v1/kv/{key}/increment", post(increment))
        .route("/v1/kv/{key}/insert", post(insert))
        .route("/v1/kv/{key}/remove", post(remove))
        .route("/v1/kv/{key}/put", post(put))
        .route("/v1/kv/{key}/generate", post(generate))
        .route("/v1/digest", get(digest))
}

impl App {
    fn key(&self, key: Key) -> Result<Arc<str>, Refused> {
        let Path(key) = key.map_err(|error| {
            self.bad(&format!(
                "the key is not percent-encoded UTF-8: {}",
                error.body_text()
            ))
        })?;
        let most = self.config.max_key_bytes;
        match key.len() {
            0 => Err(self.bad("the key is empty").into()),
            n if n > most => Err(self
                .too_large(&format!("the key has {n} bytes, at most {most} go"))
                .into()),
            _ => Ok(key.into()),
        }
    }

    fn bounded(&self, value: Scalar) -> Result<Scalar, Refused> {
        let most = self.config.max_value_bytes;
        match &value {
            Scalar::Text(text) if text.len() > most => Err(self
                .too_large(&format!(
                    "the value has {} bytes, at most {most} go",
                    text.len()
                ))
                .into()),
            _ => Ok(value),
        }
    }

    /// The operation with what the query asks for beside it.
    fn request(&self, asked: Asked, op: Op) -> Result<Request, Refused> {
        let Parameters(query) = asked.map_err(|error| {
            self.bad(&format!(
                "expected a query of {EXPECTED}: {}",
                error.body_text()
            ))
        })?;
        Ok(query.request(op))
    }
}

/// Either way a response.
async fn either(response: impl Future<Output = Result<Response, Refused>>) -> Response {
    response.await.unwrap_or_else(|refusal| *refusal)
}

/// Carries out an operation on a key without a body.
async fn bare(
    app: &App,
    kind: &'static str,
    key: Key,
    asked: Asked,
    op: fn(Arc<str>) -> Op,
) -> Response {
    either(async {
        let request = app.request(asked, op(app.key(key)?))?;
        Ok(app.ask(kind, request).await)
    })
    .await
}

/// Carries out an operation on a key with what its body says.
async fn change<T: DeserializeOwned>(
    app: &App,
    kind: &'static str,
    key: Key,
    asked: Asked,
    body: Body,
    op: impl FnOnce(Arc<str>, T) -> Result<Op, Refused>,
) -> Response {
    either(async {
        let key = app.key(key)?;
        let request = app.request(asked, op(key, app.body(body)?)?)?;
        Ok(app.ask(kind, request).await)
    })
    .await
}

async fn read(State(app): Shared, key: Key, asked: Asked) -> Response {
    bare(&app, "read", key, asked, Op::Read).await
}

async fn delete(State(app): Shared, key: Key, asked: Asked) -> Response {
    bare(&app, "delete", key, asked, Op::Delete).await
}

async fn read_all(State(app): Shared, asked: Asked) -> Response {
    either(async { Ok(app.ask("read-all", app.request(asked, Op::ReadAll)?).await) }).await
}

async fn digest(State(app): Shared, asked: Asked) -> Response {
    either(async {
        let request = Request {
            local: true,
            ..app.request(asked, Op::Digest)?
        };
        Ok(app.ask("digest", request).await)
    })
    .await
}

/// An operation whose body is one value.
async fn with_value(
    app: &App,
    kind: &'static str,
    key: Key,
    asked: Asked,
    body: Body,
    op: fn(Arc<str>, Scalar) -> Op,
) -> Response {
    change(app, kind, key, asked, body, |key, body: ValueBody| {
        Ok(op(key, app.bounded(body.value.0)?))
    })
    .await
}

async fn write(State(app): Shared, key: Key, asked: Asked, body: Body) -> Response {
    with_value(&app, "write", key, asked, body, Op::Write).await
}

async fn append(State(app): Shared, key: Key, asked: Asked, body: Body) -> Response {
    with_value(&app, "append", key, asked, body, Op::Append).await
}

async fn add(State(app): Shared, key: Key, asked: Asked, body: Body) -> Response {
    with_value(&app, "add", key, asked, body, Op::Add).await
}

async fn remove(State(app): Shared, key: Key, asked: Asked, body: Body) -> Response {
    with_value(&app, "remove", key, asked, body, Op::Remove).await
}

async fn cas(State(app): Shared, key: Key, asked: Asked, body: Body) -> Response {
    change(&app, "cas", key, asked, body, |key, body: CasBody| {
        let (old, new) = (app.bounded(body.old.0)?, app.bounded(body.new.0)?);
        Ok(Op::Cas(key, old, new))
    })
    .await
}

async fn increment(State(app): Shared, key: Key, asked: Asked, body: Body) -> Response {
    let op = |key, body: IncrementBody| Ok(Op::Increment(key, body.value));
    change(&app, "increment", key, asked, body, op).await
}

async fn insert(State(app): Shared, key: Key, asked: Asked, body: Body) -> Response {
    change(&app, "insert", key, asked, body, |key, body: InsertBody| {
        let (after, value) = (app.bounded(body.after.0)?, app.bounded(body.value.0)?);
        Ok(Op::Insert(key, after, value))
    })
    .await
}

async fn put(State(app): Shared, key: Key, asked: Asked, body: Body) -> Response {
    change(&app, "put", key, asked, body, |key, body: PutBody| {
        let (field, value) = (app.bounded(body.field.0)?, app.bounded(body.value.0)?);
        Ok(Op::Put(key, field, value))
    })
    .await
}

async fn generate(State(app): Shared, key: Key, asked: Asked, body: Body) -> Response {
    let op = |key, body: FunctionBody| Ok(Op::Generate(key, body.function));
    change(&app, "generate", key, asked, body, op).await
}

async fn no_key(State(app): Shared) -> Response {
    app.bad("the key is empty")
}
