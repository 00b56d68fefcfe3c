//! The HTTP interface; see [`crate::server`] for its table.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::driver::Input;
use super::json::{CasBody, ValueBody, answer, code, refuse, respond, unanswered};
use super::metrics::{Metrics, Operation};
use crate::core::config::Mode;
use crate::core::{Config, Message, NodeId, Op, Request, Scalar, Status};

/// How long a client's request may wait for the replica.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest body from a peer: a snapshot of everything.
const MESSAGES_BYTES_MAX: usize = 1 << 30;

/// What handlers share.
pub(super) struct App {
    pub id: NodeId,
    pub config: Config,
    pub peers: Vec<NodeId>,
    pub inputs: Sender<Input>,
    pub metrics: Arc<Metrics>,
}

type Shared = State<Arc<App>>;
type Key = Result<Path<String>, PathRejection>;
type Body = Result<Bytes, BytesRejection>;

/// All routes.
pub(super) fn router(app: App) -> Router {
    let body_max = app.config.max_body_bytes;
    let internal = Router::new()
        .route("/internal/messages", post(messages))
        .layer(DefaultBodyLimit::max(MESSAGES_BYTES_MAX));
    Router::new()
        .route("/v1/kv", get(read_all))
        .route("/v1/kv/", any(no_key))
        .route("/v1/kv/{key}", get(read).put(write))
        .route("/v1/kv/{key}/cas", post(cas))
        .route("/v1/kv/{key}/append", post(append))
        .route("/v1/kv/{key}/add", post(add))
        .route("/v1/status", get(status))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(body_max))
        .merge(internal)
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(Arc::new(app))
}

impl App {
    fn bad(&self, message: &str) -> Response {
        refuse(self.id, StatusCode::BAD_REQUEST, "bad-input", message)
    }

    fn too_large(&self, message: &str) -> Response {
        refuse(self.id, StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
    }

    fn key(&self, key: Key) -> Result<Arc<str>, Box<Response>> {
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

    fn body<T: DeserializeOwned>(&self, body: Body) -> Result<T, Box<Response>> {
        let bytes = body.map_err(|error| {
            if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
                let most = self.config.max_body_bytes;
                self.too_large(&format!("the body is longer than {most} bytes"))
            } else {
                self.bad(&format!(
                    "the body could not be read: {}",
                    error.body_text()
                ))
            }
        })?;
        serde_json::from_slice(&bytes).map_err(|error| {
            self.bad(&format!("the body is not what was expected: {error}"))
                .into()
        })
    }

    fn bounded(&self, value: Scalar) -> Result<Scalar, Box<Response>> {
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

    /// Whether a read is to be local.
    fn local(&self, query: Option<&str>) -> Result<bool, Box<Response>> {
        match query {
            None | Some("") => Ok(false),
            Some("read=local") => Ok(true),
            Some(other) => Err(self
                .bad(&format!("expected no query or read=local, not {other:?}"))
                .into()),
        }
    }

    /// Asks the replica.
    async fn ask(&self, kind: &'static str, op: Op, local: bool) -> Response {
        let count = |outcome| {
            self.metrics
                .operations
                .get_or_create(&Operation { kind, outcome })
                .inc();
        };
        let (sender, reply) = oneshot::channel();
        if self
            .inputs
            .try_send(Input::Request(
                Request {
                    local,
                    ..Request::new(op)
                },
                sender,
            ))
            .is_err()
        {
            count("unavailable");
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return refuse(
                self.id,
                status,
                "unavailable",
                "too many requests are waiting",
            );
        }
        if let Ok(Ok(reply)) = timeout(PATIENCE, reply).await {
            count(code(&reply));
            return answer(&reply);
        }
        count("indeterminate");
        unanswered(self.id, "the replica did not answer in time")
    }

    async fn status(&self) -> Option<Status> {
        let (sender, status) = oneshot::channel();
        self.inputs.send(Input::Status(sender)).await.ok()?;
        status.await.ok()
    }

    /// Whether clients are served well here: see the module of the server.
    fn ready(&self, status: &Status) -> bool {
        let caught_up = status.last.epoch == status.epoch;
        status.leader.is_some() && (self.config.mode != Mode::Raft || caught_up)
    }
}

/// Either way a response.
async fn either(response: impl Future<Output = Result<Response, Box<Response>>>) -> Response {
    response.await.unwrap_or_else(|refusal| *refusal)
}

async fn read(State(app): Shared, key: Key, RawQuery(query): RawQuery) -> Response {
    either(async {
        let (key, local) = (app.key(key)?, app.local(query.as_deref())?);
        Ok(app.ask("read", Op::Read(key), local).await)
    })
    .await
}

async fn read_all(State(app): Shared, RawQuery(query): RawQuery) -> Response {
    either(async {
        let local = app.local(query.as_deref())?;
        Ok(app.ask("read-all", Op::ReadAll, local).await)
    })
    .await
}

async fn change(
    app: &App,
    kind: &'static str,
    key: Key,
    body: Body,
    op: fn(Arc<str>, Scalar) -> Op,
) -> Response {
    either(async {
        let key = app.key(key)?;
        let value = app.bounded(app.body::<ValueBody>(body)?.value.0)?;
        Ok(app.ask(kind, op(key, value), false).await)
    })
    .await
}

async fn write(State(app): Shared, key: Key, body: Body) -> Response {
    change(&app, "write", key, body, Op::Write).await
}

async fn append(State(app): Shared, key: Key, body: Body) -> Response {
    change(&app, "append", key, body, Op::Append).await
}

async fn add(State(app): Shared, key: Key, body: Body) -> Response {
    change(&app, "add", key, body, Op::Add).await
}

async fn cas(State(app): Shared, key: Key, body: Body) -> Response {
    either(async {
        let key = app.key(key)?;
        let CasBody { old, new } = app.body(body)?;
        let (old, new) = (app.bounded(old.0)?, app.bounded(new.0)?);
        Ok(app.ask("cas", Op::Cas(key, old, new), false).await)
    })
    .await
}

async fn no_key(State(app): Shared) -> Response {
    app.bad("the key is empty")
}

async fn not_found(State(app): Shared, uri: Uri) -> Response {
    let message = format!("there is nothing at {}", uri.path());
    refuse(app.id, StatusCode::NOT_FOUND, "not-found", &message)
}

async fn not_allowed(State(app): Shared, method: Method, uri: Uri) -> Response {
    let message = format!("{method} is not possible at {}", uri.path());
    refuse(
        app.id,
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        &message,
    )
}

async fn status(State(app): Shared) -> Response {
    match app.status().await {
        Some(status) => respond(StatusCode::OK, &status),
        None => unanswered(app.id, "the replica has ended"),
    }
}

async fn healthz() -> StatusCode {
    StatusCode::OK
}

async fn readyz(State(app): Shared) -> Response {
    match app.status().await {
        Some(status) if app.ready(&status) => StatusCode::OK.into_response(),
        _ => {
            let message = "no leader is known, or the log is not caught up";
            refuse(
                app.id,
                StatusCode::SERVICE_UNAVAILABLE,
                "not-ready",
                message,
            )
        }
    }
}

async fn metrics(State(app): Shared) -> Response {
    let status = app.status().await;
    match status.map(|status| app.metrics.render(&status)) {
        Some(Ok(text)) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        _ => unanswered(app.id, "the replica has ended"),
    }
}

async fn messages(State(app): Shared, body: Body) -> Response {
    let Ok(body) = body else {
        return app.bad("the body could not be read");
    };
    let Ok((from, messages)) = postcard::from_bytes::<(NodeId, Vec<Message>)>(&body) else {
        return app.bad("the body is not a batch of messages");
    };
    if !app.peers.contains(&from) {
        return app.bad(&format!("n{} is no peer", from.0));
    }
    if app
        .inputs
        .try_send(Input::Messages(from, messages))
        .is_err()
    {
        let message = "too many messages are waiting";
        return refuse(
            app.id,
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            message,
        );
    }
    StatusCode::NO_CONTENT.into_response()
}
