//! The HTTP interface, but for the operations on keys; see [`crate::server`] for its table.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::driver::Input;
use super::faults::{ClockFault, Clocks, CrashPoint, Trap};
use super::json::{answer, code, refuse, respond, unanswered};
use super::keys;
use super::metrics::{Metrics, Operation};
use crate::core::config::Mode;
use crate::core::{Admin, Config, Message, NodeId, Op, Request, Role, Status};

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
    /// Where the process is to end; none if faults are not allowed.
    pub trap: Option<Arc<Trap>>,
}

/// Where to end.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Crash {
    at: Option<CrashPoint>,
}

/// How a node stands.
#[derive(Serialize)]
struct Standing {
    #[serde(flatten)]
    status: Status,
    clock: Clocks,
}

pub(super) type Shared = State<Arc<App>>;
pub(super) type Body = Result<Bytes, BytesRejection>;

/// All routes.
pub(super) fn router(app: App) -> Router {
    let body_max = app.config.max_body_bytes;
    let internal = Router::new()
        .route("/internal/messages", post(messages))
        .layer(DefaultBodyLimit::max(MESSAGES_BYTES_MAX));
    Router::new()
        .merge(keys::router())
        .route("/v1/admin", post(admin))
        .route("/v1/status", get(status))
        .route("/v1/fault/crash", post(crash))
        .route("/v1/fault/clock", post(clock))
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
    pub fn bad(&self, message: &str) -> Response {
        refuse(self.id, StatusCode::BAD_REQUEST, "bad-input", message)
    }

    pub fn too_large(&self, message: &str) -> Response {
        refuse(self.id, StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
    }

    pub fn body<T: DeserializeOwned>(&self, body: Body) -> Result<T, Box<Response>> {
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

    /// Asks the replica.
    pub async fn ask(&self, kind: &'static str, request: Request) -> Response {
        let count = |outcome| {
            self.metrics
                .operations
                .get_or_create(&Operation { kind, outcome })
                .inc();
        };
        let (sender, reply) = oneshot::channel();
        if self
            .inputs
            .try_send(Input::Request(request, sender))
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

    async fn standing(&self) -> Option<(Status, Clocks)> {
        let (sender, status) = oneshot::channel();
        self.inputs.send(Input::Status(sender)).await.ok()?;
        status.await.ok()
    }

    async fn status(&self) -> Option<Status> {
        self.standing().await.map(|(status, _)| status)
    }

    fn forbidden(&self) -> Response {
        let message = "this node does nothing to itself; start it with --allow-faults";
        refuse(self.id, StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// Whether clients are served well here: see the module of the server.
    fn ready(&self, status: &Status) -> bool {
        let holds_nothing = matches!(status.role, Role::Gateway | Role::Monitor);
        let caught_up = holds_nothing || status.last.epoch == status.epoch;
        match self.config.mode {
            Mode::SingleLeader => status.leader.is_some(),
            Mode::Raft => status.leader.is_some() && caught_up,
            Mode::MultiLeader | Mode::Leaderless => true,
        }
    }
}

async fn admin(State(app): Shared, body: Body) -> Response {
    match app.body::<Admin>(body) {
        Ok(request) => app.ask("admin", Request::new(Op::Admin(request))).await,
        Err(refusal) => *refusal,
    }
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
    match app.standing().await {
        Some((status, clock)) => respond(StatusCode::OK, &Standing { status, clock }),
        None => unanswered(app.id, "the replica has ended"),
    }
}

async fn crash(State(app): Shared, body: Body) -> Response {
    let Some(trap) = &app.trap else {
        return app.forbidden();
    };
    match app.body::<Crash>(body) {
        Ok(Crash { at }) => {
            trap.set(at);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(refusal) => *refusal,
    }
}

async fn clock(State(app): Shared, body: Body) -> Response {
    if app.trap.is_none() {
        return app.forbidden();
    }
    let fault = match app.body::<ClockFault>(body) {
        Ok(fault) => fault,
        Err(refusal) => return *refusal,
    };
    let (sender, clocks) = oneshot::channel();
    if app.inputs.send(Input::Clock(fault, sender)).await.is_ok()
        && let Ok(clocks) = clocks.await
    {
        return respond(StatusCode::OK, &clocks);
    }
    unanswered(app.id, "the replica has ended")
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
