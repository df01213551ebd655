//! Watches runs to their end: copy this file and `client.rs`.

use std::time::Duration;

use async_stream::try_stream;
use tokio::time::{Instant, sleep};
use tokio_stream::Stream;
use tonic::{Code, Extensions, IntoRequest, Request, Status};
use tonic_types::StatusExt;

use crate::client::{Client, in_time};
use crate::pb::{Run, WatchRunRequest};

const MAX_RETRIES: i32 = 10; // in a row, without any response
const MIN_DELAY: Duration = Duration::from_millis(50); // of a wait: the gateway's are within a minute
const MAX_DELAY: Duration = Duration::from_secs(3600);

/// Returns the states of a run until its end. If a stream breaks, it opens another. The first
/// error that it returns is final, and the deadline ends it too. Drop it to cancel the watch.
pub fn watch_run(
    mut client: Client,
    request: impl IntoRequest<WatchRunRequest>,
    deadline: Duration,
) -> impl Stream<Item = Result<Run, Status>> {
    let (metadata, _, mut message) = request.into_request().into_parts();
    let (mut stream, mut failures, start) = (None, 0, Instant::now());
    try_stream! {
        loop {
            let left = deadline.saturating_sub(start.elapsed());
            let next = async {
                let (metadata, message) = (metadata.clone(), message.clone());
                let mut request = Request::from_parts(metadata, Extensions::new(), message);
                request.set_timeout(left); // for the gateway
                let responses = match &mut stream {
                    Some(responses) => responses,
                    None => stream.insert(client.watch_run(request).await?.into_inner()),
                };
                responses.message().await
            };
            match in_time(left, next).await {
                Ok(None) => break, // the run has ended
                Ok(Some(response)) => {
                    failures = 0;
                    if let Some(run) = response.run { // else it is a heartbeat
                        // to watch only this run again; a read mask may leave it out
                        if let Some(uuid) = run.uuid.as_ref().filter(|uuid| !uuid.is_empty()) {
                            message.uuid.clone_from(uuid);
                        }
                        yield run;
                    }
                }
                Err(error) => {
                    let left = deadline.saturating_sub(start.elapsed());
                    let delay = retry_delay(&error, failures).filter(|delay| *delay < left);
                    let delay = delay.ok_or(error)?;
                    (stream, failures) = (None, failures + 1);
                    sleep(delay).await; // RetryInfo's delay, or the back-off
                }
            }
        }
    }
}

/// Returns the wait until the next stream, or None if the error is final.
fn retry_delay(error: &Status, failures: i32) -> Option<Duration> {
    if failures == MAX_RETRIES {
        return None;
    }
    if let Some(retry) = error.get_details_retry_info() {
        return Some(retry.retry_delay.unwrap_or_default().clamp(MIN_DELAY, MAX_DELAY));
    }
    match error.code() {
        _ if error.get_details_error_info().is_some() => None, // a gateway's error
        // Without details, these codes mean that the stream was cut on its way.
        Code::Unavailable
        | Code::Internal
        | Code::Unknown
        | Code::Cancelled
        | Code::DeadlineExceeded => {
            let seconds = (0.5 * 2f64.powi(failures)).min(30.0);
            Some(Duration::from_secs_f64(seconds * (0.8 + 0.4 * fastrand::f64())))
        }
        _ => None,
    }
}
