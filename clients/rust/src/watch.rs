//! Watches runs to their end: copy this file and `client.rs`.

use std::time::Duration;

use async_stream::try_stream;
use tokio::time::sleep;
use tokio_stream::Stream;
use tonic::{Code, Extensions, IntoRequest, Request, Status};
use tonic_types::StatusExt;

use crate::client::Client;
use crate::pb::{Run, WatchRunRequest};

const MAX_FAILURES: i32 = 10; // consecutive, without any response

/// Returns the states of a run until its end. If a stream breaks, it watches again; an error
/// is final. Drop the returned stream to cancel the watch.
pub fn watch_run(
    mut client: Client,
    request: impl IntoRequest<WatchRunRequest>,
) -> impl Stream<Item = Result<Run, Status>> {
    let (metadata, _, mut message) = request.into_request().into_parts();
    let (mut stream, mut failures) = (None, 0);
    try_stream! {
        loop {
            let next = async {
                let (metadata, message) = (metadata.clone(), message.clone());
                let request = Request::from_parts(metadata, Extensions::new(), message);
                let responses = match &mut stream {
                    Some(responses) => responses,
                    None => stream.insert(client.watch_run(request).await?.into_inner()),
                };
                responses.message().await
            };
            match next.await {
                Ok(None) => break, // the run has ended
                Ok(Some(response)) => {
                    failures = 0;
                    if let Some(run) = response.run { // else it is a heartbeat
                        if let Some(uuid) = &run.uuid {
                            message.uuid.clone_from(uuid); // so that only this run is resumed
                        }
                        yield run;
                    }
                }
                Err(error) => {
                    let delay = retry_delay(&error, failures).ok_or(error)?;
                    (stream, failures) = (None, failures + 1);
                    sleep(delay).await;
                }
            }
        }
    }
}

/// Returns the wait until the next stream, or None if the error is final.
fn retry_delay(error: &Status, failures: i32) -> Option<Duration> {
    if failures == MAX_FAILURES {
        return None;
    }
    if let Some(retry) = error.get_details_retry_info() {
        return retry.retry_delay;
    }
    match error.code() {
        _ if !error.details().is_empty() => None, // a gateway's error
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
