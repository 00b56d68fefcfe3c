//! `quorate serve`: the run store as web pages, read-only.
//!
//! * `GET /`: all runs, newest first; `?verdict=invalid&name=failover` filters.
//! * `GET /runs/{name}/{time}/`: one run: what it found, and its files.
//! * `GET /runs/{name}/{time}/{file}`: a file of it, `report.html` above all.
//!
//! A path never leads out of the store: each segment is checked, and what a symbolic link points
//! to must lie in the store as well. The listener is on loopback unless told otherwise, and then it
//! answers only to loopback names, so that no web page can read the store by rebinding its own name.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::Deserialize;
use tower_http::services::ServeFile;

use crate::report::Summary;

mod pages;
mod store;

pub use store::{Run, list};

/// Which runs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Filter {
    /// `valid`, `invalid` or `unknown`; empty for all.
    #[serde(default)]
    pub verdict: String,
    /// Part of the run's name; empty for all.
    #[serde(default)]
    pub name: String,
}

impl Filter {
    /// Whether a run is to be listed.
    pub fn admits(&self, run: &Run) -> bool {
        let verdict = run.summary.as_ref().map(Summary::verdict_word);
        (self.verdict.is_empty() || verdict.is_ok_and(|v| v == self.verdict))
            && run.name.to_lowercase().contains(&self.name.to_lowercase())
    }
}

/// [`run`] for a caller that has no runtime.
///
/// # Errors
/// As [`run`].
pub fn start(store: PathBuf, listen: SocketAddr) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?
        .block_on(run(store, listen))
}

/// Serves a store until the process ends. An empty or missing store is served too: its page says
/// what to do.
///
/// # Errors
/// If the address cannot be listened on, e.g. because another process does.
pub async fn run(store: PathBuf, listen: SocketAddr) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}; choose another --listen address"))?;
    let address = listener.local_addr()?;
    if !store.is_dir() {
        tracing::warn!(
            "there is no run store at {} yet; `quorate test` makes it",
            store.display()
        );
    }
    tracing::info!("serving {} on http://{address}/", store.display());
    axum::serve(listener, router(store, address.ip())).await?;
    Ok(())
}

/// The pages over a store, for a listener on this address.
pub fn router(store: PathBuf, listen: IpAddr) -> Router {
    let app = Router::new()
        .route("/", get(index))
        .route("/runs/{name}/{time}", get(to_directory))
        .route("/runs/{name}/{time}/", get(run_page))
        .route("/runs/{name}/{time}/{*file}", get(file))
        .fallback(|| async { not_found("There is no such page.") })
        .with_state(Arc::new(store));
    let app = if listen.is_loopback() {
        app.layer(middleware::from_fn(loopback_names_only))
    } else {
        app
    };
    app.layer(middleware::map_response(secured))
}

type Store = State<Arc<PathBuf>>;

async fn index(State(store): Store, Query(filter): Query<Filter>) -> Response {
    let listed = tokio::task::spawn_blocking(move || {
        let runs = list(&store);
        runs.map(|runs| pages::index(&store, &runs, &filter))
    });
    match listed.await {
        Ok(Ok(page)) => Html(page).into_response(),
        Ok(Err(e)) => failed(&format!("{e:#}")),
        Err(e) => failed(&e.to_string()),
    }
}

/// A relative link on the page needs the slash.
async fn to_directory(UrlPath((name, time)): UrlPath<(String, String)>) -> Response {
    if !is_segment(&name) || !is_segment(&time) {
        return not_found("There is no such run.");
    }
    Redirect::permanent(&format!("/runs/{}/{}/", encode(&name), encode(&time))).into_response()
}

async fn run_page(
    State(store): Store,
    UrlPath((name, time)): UrlPath<(String, String)>,
) -> Response {
    let read = tokio::task::spawn_blocking(move || {
        let directory = resolve(&store, &[&name, &time])?;
        let files = store::files(&directory);
        let run = Run::read(name, time, directory);
        Some(pages::run(&run, &files))
    });
    match read.await {
        Ok(Some(page)) => Html(page).into_response(),
        Ok(None) => not_found("There is no such run."),
        Err(e) => failed(&e.to_string()),
    }
}

async fn file(
    State(store): Store,
    UrlPath((name, time, file)): UrlPath<(String, String, String)>,
    request: Request,
) -> Response {
    let mut segments = vec![name.as_str(), time.as_str()];
    segments.extend(file.split('/'));
    let Some(path) = resolve(&store, &segments).filter(|p| p.is_file()) else {
        return not_found("There is no such file in this run.");
    };
    // Logs and YAML are for reading, not for downloading.
    let text = path
        .extension()
        .is_some_and(|e| ["log", "yaml"].iter().any(|t| e == *t));
    let mut service = if text {
        let plain = "text/plain; charset=utf-8";
        ServeFile::new_with_mime(&path, &plain.parse().expect("a constant type"))
    } else {
        ServeFile::new(&path)
    };
    let served = service.try_call(request).await;
    match served {
        Ok(response) => response.map(Body::new),
        Err(e) => failed(&format!("cannot read {file}: {e}")),
    }
}

/// Whether this is one ordinary name: no separator, no `..`, no drive, not hidden.
fn is_segment(text: &str) -> bool {
    let mut components = Path::new(text).components();
    let ordinary =
        matches!(components.next(), Some(Component::Normal(_))) && components.next().is_none();
    ordinary && !text.starts_with('.') && !text.contains(['/', '\\', '\0'])
}

/// The existing path of these segments in the store, if it lies there after all links are followed.
fn resolve(store: &Path, segments: &[&str]) -> Option<PathBuf> {
    if !segments.iter().all(|s| is_segment(s)) {
        return None;
    }
    let store = store.canonicalize().ok()?;
    let mut path = store.clone();
    path.extend(segments);
    let path = path.canonicalize().ok()?;
    path.starts_with(&store).then_some(path)
}

/// A segment of a URL's path.
fn encode(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

async fn loopback_names_only(request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|h| h.to_str().ok());
    if host.is_none_or(is_loopback_name) {
        next.run(request).await
    } else {
        let say = "This store is served to this machine only; open it by 127.0.0.1 or localhost.";
        (StatusCode::FORBIDDEN, say).into_response()
    }
}

/// Whether a `Host` header names this machine.
fn is_loopback_name(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || [name, bare]
            .iter()
            .any(|n| n.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()))
}

async fn secured(mut response: Response) -> Response {
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
             form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
    ] {
        response.headers_mut().insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}

fn not_found(what: &str) -> Response {
    (StatusCode::NOT_FOUND, Html(pages::message(what))).into_response()
}

fn failed(what: &str) -> Response {
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        Html(pages::message(what)),
    )
        .into_response()
}

#[cfg(test)]
mod tests;
