//! Probes and the operator's view, on a listener of their own.

use std::io;
use std::net::SocketAddr;

use oxhttp::Server;
use oxhttp::model::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use oxhttp::model::{Body, HeaderValue, Method, Request, Response, StatusCode};
use winddown::ShutdownHandle;

use crate::{PATIENCE, Times, page};

/// Connections at a time: probes and a few browsers.
const MOST: usize = 64;

/// Answers `/livez`, `/readyz` and `/shutdown` from now on.
///
/// On bare threads, which the shutdown does not wait for and does not stop: they answer until the
/// process has gone.
pub(crate) fn start(addr: SocketAddr, handle: ShutdownHandle, times: Times) -> io::Result<()> {
    Server::new(move |request| answer(request, &handle, &times))
        .bind(addr)
        .with_global_timeout(PATIENCE)
        .with_max_concurrent_connections(MOST)
        .spawn()?;
    Ok(())
}

fn answer(request: &Request<Body>, handle: &ShutdownHandle, times: &Times) -> Response<Body> {
    if request.method() != Method::GET {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        let allowed = HeaderValue::from_static("GET");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    match request.uri().path() {
        "/livez" => probe(handle.is_live(), handle),
        "/readyz" => probe(handle.readiness().is_ready(), handle),
        "/shutdown" if wants_json(request) => json(handle),
        "/shutdown" => {
            let page = page::show(&handle.snapshot(), times);
            response(StatusCode::OK, "text/html; charset=utf-8", page)
        }
        "/shutdown.json" => json(handle),
        "/shutdown.txt" => text(StatusCode::OK, format!("{}\n", handle.snapshot())),
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /livez, /readyz, /shutdown, /shutdown.json and /shutdown.txt\n",
        ),
    }
}

/// The status is for the kubelet, the word for whoever looks with curl.
fn probe(good: bool, handle: &ShutdownHandle) -> Response<Body> {
    let status = if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    text(status, format!("{}\n", handle.readiness()))
}

fn wants_json(request: &Request<Body>) -> bool {
    request
        .headers()
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("application/json"))
}

fn json(handle: &ShutdownHandle) -> Response<Body> {
    match serde_json::to_string(&handle.snapshot()) {
        Ok(json) => response(StatusCode::OK, "application/json", json),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    response(status, "text/plain; charset=utf-8", text)
}

fn response(status: StatusCode, kind: &'static str, body: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // True for this moment only.
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
