//! The client: posts events over connections that are kept alive, and says what a failure means.

use std::time::Duration;

use axum::http::{Method, Request, StatusCode, Uri, header};
use bytes::Bytes;
use forebay::time::TimedOut;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::cli::unusable;
use crate::event::ORDER_PAID;
use crate::http_log::Stats;

/// How long the first connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Posts to one URL.
#[derive(Clone)]
pub(crate) struct Poster {
    client: Client<HttpConnector, Full<Bytes>>,
    url: Uri,
}

/// Why a post did not go through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    /// Worth another try: the service is busy, broken or out of reach.
    #[error("{0}")]
    Unavailable(String),
    /// The service will never take this one.
    #[error("the service refused the order: {0}")]
    Refused(StatusCode),
    /// It is not the service that was meant, or it does not know us: no order will go through.
    #[error("{0} is not the service for orders: {1}")]
    Misdirected(Uri, StatusCode),
}

impl From<TimedOut> for PostError {
    fn from(error: TimedOut) -> PostError {
        PostError::Unavailable(error.to_string())
    }
}

/// Reads a URL that can be posted to.
pub(crate) fn parse_url(text: &str) -> anyhow::Result<Uri> {
    let url: Uri = text
        .parse()
        .map_err(|error| unusable(format!("--http {text}: {error}")))?;
    if url.scheme_str() != Some("http") || url.host().is_none_or(str::is_empty) {
        return Err(unusable(format!(
            "--http {text}: a URL such as http://127.0.0.1:8080/orders is needed"
        )));
    }
    Ok(url)
}

impl Poster {
    pub(crate) fn new(url: Uri, connections: usize) -> Poster {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(connections)
            .build(connector);
        Poster { client, url }
    }

    /// Whether somebody listens there: told before anything is read.
    pub(crate) async fn probe(&self) -> anyhow::Result<()> {
        let host = self.url.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.url.port_u16().unwrap_or(80);
        let connected =
            tokio::time::timeout(CONNECT, tokio::net::TcpStream::connect((host, port))).await;
        match connected {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(unusable(format!("--http {}: {error}", self.url))),
            Err(_) => Err(unusable(format!(
                "--http {}: no connection within {CONNECT:?}",
                self.url
            ))),
        }
    }

    /// Posts an event, and gives it back when the service has taken it.
    pub(crate) async fn post(self, event: Bytes) -> Result<Bytes, PostError> {
        let unavailable = |error: &dyn std::error::Error| PostError::Unavailable(error.to_string());
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("event-type", ORDER_PAID)
            .body(Full::new(event.clone()))
            .map_err(|error| unavailable(&error))?;
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| unavailable(&error))?;
        let status = response.status();
        // The connection is used again once the answer has been read to its end.
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| unavailable(&error))?;
        }
        match status {
            status if status.is_success() => Ok(event),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(PostError::Unavailable(status.to_string()))
            }
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => Err(PostError::Refused(status)),
            status if status.is_client_error() || status.is_redirection() => {
                Err(PostError::Misdirected(self.url.clone(), status))
            }
            status => Err(PostError::Unavailable(status.to_string())),
        }
    }

    /// What the service says it was sent; `None` if it does not say.
    pub(crate) async fn stats(&self) -> Option<Stats> {
        let mut parts = self.url.clone().into_parts();
        parts.path_and_query = Some("/stats".parse().ok()?);
        let url = Uri::from_parts(parts).ok()?;
        let answer = async {
            let response = self.client.get(url).await.ok()?;
            let body = response
                .status()
                .is_success()
                .then_some(response.into_body())?;
            let bytes = http_body_util::Limited::new(body, 4096)
                .collect()
                .await
                .ok()?
                .to_bytes();
            serde_json::from_slice(&bytes).ok()
        };
        tokio::time::timeout(CONNECT, answer).await.ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_http_url_is_taken() {
        assert!(parse_url("http://127.0.0.1:80/orders").is_ok());
        assert!(parse_url("http://localhost").is_ok());
        for bad in [
            "",
            "localhost:80",
            "https://localhost/",
            "http://",
            "http:///x",
            "ht tp://x",
            "/orders",
        ] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }
}
