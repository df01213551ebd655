//! Runs the cases that it reads from stdin, and prints what each of them returned.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    io,
    path::PathBuf,
    pin::pin,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use prost::Message;
use prost_types::FieldMask;
use runs::client::{Client, connect, get_run, status_of};
use runs::code_name;
use runs::pb::{GetRunRequest, Run, RunExport, WatchRunRequest};
use runs::watch::watch_run;
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_stream::StreamExt;
use tonic::{Request, Status, metadata::MetadataMap};
use tonic_types::{ErrorInfo, StatusExt};

const LONG: Duration = Duration::from_secs(60); // for a call without a deadline in the list

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let document: Value = serde_json::from_reader(io::stdin())?;
    for case in document["cases"].as_array().ok_or("no cases")? {
        let server = &document["servers"][text(&case["server"])];
        let file = |name: &str| server[name].as_str().map(PathBuf::from);
        let client = connect(text(&server["address"]), file("tlsCa"), file("tokenFile"))?;
        let ended = match text(&case["method"]) {
            "WatchRun" => watch(client, case).await,
            _ => get(client, case).await,
        };
        let mut line = match ended {
            Ok(Some(trailers)) => {
                json!({"code": "OK", "error": null, "trailers": trailers_of(&trailers)})
            }
            Ok(None) => json!({"code": null, "error": null}),
            Err(error) => failure(&error),
        };
        line["case"] = case["name"].clone();
        println!("{line}");
    }
    Ok(())
}

/// Makes a call of GetRun, and returns its metadata; None if the case drops it.
async fn get(client: Client, case: &Value) -> Result<Option<MetadataMap>, Status> {
    let listed = &case["request"];
    let exports = listed["export"].as_array().into_iter().flatten();
    let message = GetRunRequest {
        id: text(&listed["id"]).into(),
        export: exports
            .filter_map(|name| RunExport::from_str_name(&format!("RUN_EXPORT_{}", text(name))))
            .map(Into::into)
            .collect(),
        max_staleness: whole_seconds(&listed["maxStalenessSeconds"]),
        read_mask: mask(listed),
    };
    let deadline = duration(&case["deadlineSeconds"]).unwrap_or(LONG);
    tokio::select! {
        answer = get_run(client, with_id(case, message), deadline) => {
            let (metadata, run, _) = answer?.into_parts();
            report(case, &run);
            Ok(Some(metadata))
        }
        // when the case cancels the call
        () = sleep(duration(&case["cancelAfterSeconds"]).unwrap_or(Duration::MAX)) => Ok(None),
    }
}

/// Watches a run to its end; returns no trailers, and None if the case drops the watch.
async fn watch(client: Client, case: &Value) -> Result<Option<MetadataMap>, Status> {
    let listed = &case["request"];
    let message = WatchRunRequest {
        id: text(&listed["id"]).into(),
        uuid: text(&listed["uuid"]).into(),
        read_mask: mask(listed),
        heartbeat_interval: whole_seconds(&listed["heartbeatSeconds"]),
        ..Default::default()
    };
    let deadline = duration(&case["deadlineSeconds"]).unwrap_or(LONG);
    let mut states = pin!(watch_run(client, with_id(case, message), deadline));
    let mut count = 0;
    while let Some(run) = states.next().await {
        report(case, &run?);
        count += 1;
        if case["cancelAfterStates"] == count {
            return Ok(None);
        }
    }
    Ok(Some(MetadataMap::new()))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn duration(seconds: &Value) -> Option<Duration> {
    seconds.as_f64().map(Duration::from_secs_f64)
}

fn whole_seconds(number: &Value) -> Option<prost_types::Duration> {
    number.as_i64().map(|seconds| prost_types::Duration { seconds, nanos: 0 })
}

fn mask(listed: &Value) -> Option<FieldMask> {
    let paths = listed["paths"].as_array()?;
    Some(FieldMask { paths: paths.iter().map(|path| text(path).into()).collect() })
}

fn with_id<T>(case: &Value, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let id = text(&case["requestId"]).parse().expect("the id is ASCII");
    request.metadata_mut().insert("x-request-id", id);
    request
}

/// Returns an error in the form of the list.
fn failure(error: &Status) -> Value {
    let details = error.get_error_details();
    let none = || ErrorInfo::new("", "", HashMap::<String, String>::new());
    let info = details.error_info().cloned().unwrap_or_else(none);
    let delay = details.retry_info().map(|retry| retry.retry_delay.unwrap_or_default());
    let faults = details.bad_request().cloned();
    let fields = faults.into_iter().flat_map(|request| request.field_violations);
    json!({
        "code": code_name(error.code()),
        "error": {
            "message": error.message(),
            "reason": info.reason,
            "domain": info.domain,
            "metadata": info.metadata,
            "retrySeconds": delay.map(|delay| delay.as_secs_f64()),
            "fields": fields
                .map(|fault| (fault.field, fault.description))
                .collect::<BTreeMap<_, _>>(),
            "requestId": details.request_info().map_or("", |info| &info.request_id),
        },
        "trailers": trailers_of(error.metadata()),
    })
}

/// Returns the trailers that the list is about.
fn trailers_of(trailers: &MetadataMap) -> Value {
    let all = |name| -> Vec<_> {
        let values = trailers.get_all(name).iter();
        values.filter_map(|value| value.to_str().ok()).collect()
    };
    json!({"x-request-id": all("x-request-id"), "x-amzn-requestid": all("x-amzn-requestid")})
}

/// Reports a state of a run.
fn report(case: &Value, run: &Run) {
    let encoded = BASE64_STANDARD.encode(run.encode_to_vec());
    println!("{}", json!({"case": case["name"], "run": encoded, "status": status_of(run)}));
}
