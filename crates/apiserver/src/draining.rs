//! Stopping without breaking anybody's request: what ends, what goes on, what is refused.
//!
//! 1. The stop is announced: `/readyz` fails, everything else goes on (`--shutdown-delay-duration`), so that load
//!    balancers can turn away.
//! 2. Draining: no new connection is taken, watches end as if their time were over, open requests are finished.
//! Source: upstream's graceful termination of the API server.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use stdx::Shutdown;
use tokio_util::sync::WaitForCancellationFutureOwned;

/// Bytes of a body that nobody read which are taken off the wire, and how long that may take.
const LEFTOVER_MAX: usize = 256 * 1024;
const LEFTOVER_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// How far the stop of the server has come.
#[derive(Clone, Default)]
pub struct Draining {
    announced: Shutdown,
    draining: Shutdown,
    /// `--shutdown-send-retry-after`: requests that come while draining are sent elsewhere.
    send_retry_after: bool,
}

impl Draining {
    pub fn new(send_retry_after: bool) -> Draining {
        Draining { send_retry_after, ..Draining::default() }
    }

    pub fn announce(&self) {
        self.announced.cancel();
    }

    pub fn begin(&self) {
        self.announced.cancel();
        self.draining.cancel();
    }

    pub fn is_announced(&self) -> bool {
        self.announced.is_cancelled()
    }

    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    pub fn token(&self) -> Shutdown {
        self.draining.clone()
    }

    /// The answer to a request from outside that came too late.
    pub fn refusal(&self) -> Option<Response<Body>> {
        if !self.send_retry_after || !self.is_draining() {
            return None;
        }
        let mut r = Response::new(Body::from("The apiserver is shutting down, please try again later.\n"));
        *r.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        let headers = r.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        Some(r)
    }

    /// A body without an end of its own: it ends when draining begins. `guard` lives as long as it.
    pub fn ending<G: Send + 'static>(&self, body: Body, guard: G) -> Body {
        Body::new(Ending { body, stop: Some(Box::pin(self.draining.clone().cancelled_owned())), _guard: guard })
    }
}

/// A body that keeps `guard` until it has been sent.
pub fn holding<G: Send + 'static>(body: Body, guard: G) -> Body {
    Body::new(Ending { body, stop: None, _guard: guard })
}

struct Ending<G> {
    body: Body,
    stop: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    _guard: G,
}

// Nothing in it is pinned in place.
impl<G> Unpin for Ending<G> {}

impl<G> HttpBody for Ending<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            // What is ready is sent before the end.
            Poll::Pending if self.stop.as_mut().is_some_and(|s| s.as_mut().poll(cx).is_ready()) => Poll::Ready(None),
            polled => polled,
        }
    }
}

/// A request body of which whatever the server left unread is read and dropped, within bounds.
///
/// HTTP/2 resets a stream whose body isn't read to its end, and peers that are sent many resets (or that cause many)
/// take the other side for hostile: about a thousand per connection end it with ENHANCE_YOUR_CALM. HTTP/1.1 ends the
/// connection itself, and with it the next request that a client has sent already.
pub struct Tidy(Option<Body>);

impl Tidy {
    pub fn wrap(body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        Body::new(Tidy(Some(body)))
    }
}

impl HttpBody for Tidy {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|b| b.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |b| b.size_hint())
    }
}

impl Drop for Tidy {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|b| !b.is_end_stream()) else { return };
        if body.size_hint().lower() > LEFTOVER_MAX as u64 {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LEFTOVER_PATIENCE, drain(body)));
        }
    }
}

async fn drain(mut body: Body) {
    use http_body_util::BodyExt;
    let mut left = LEFTOVER_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(less) => left = less,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn endless_bodies_end_with_what_was_ready() {
        let draining = Draining::default();
        let chunks = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from("a")), Ok(Bytes::from("b"))]);
        let endless = futures::StreamExt::chain(chunks, futures::stream::pending());
        let guard = Arc::new(());
        let mut body = draining.ending(Body::from_stream(endless), guard.clone());
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
        draining.begin();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "b");
        assert!(body.frame().await.is_none());
        assert_eq!(Arc::strong_count(&guard), 2);
        drop(body);
        assert_eq!(Arc::strong_count(&guard), 1);
    }

    #[tokio::test]
    async fn unread_bodies_are_read_within_bounds() {
        let read = Arc::new(AtomicUsize::new(0));
        let body = |chunks: usize| {
            let read = read.clone();
            let one = move |_| {
                read.fetch_add(1, Ordering::Relaxed);
                Ok::<_, std::io::Error>(Bytes::from(vec![0; 64 * 1024]))
            };
            Body::from_stream(futures::stream::iter((0..chunks).map(one)))
        };
        for (chunks, want) in [(3, 3), (100, 5)] {
            read.store(0, Ordering::Relaxed);
            drop(Tidy::wrap(body(chunks)));
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            assert_eq!(read.load(Ordering::Relaxed), want);
        }
    }
}
