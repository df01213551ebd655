//! Calls a HealthOmics gateway: copy this file and `watch.rs`.

use std::{error::Error, fs, path::PathBuf, time::Duration};

use tokio::time::sleep;
use tonic::service::{Interceptor, interceptor::InterceptedService};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, IntoRequest, Request, Response, Status};
use tonic_types::StatusExt;

use crate::pb::{GetRunRequest, Run, run_service_client::RunServiceClient};

/// A client has the stub's methods. A clone is cheap, and uses the same connection.
pub type Client = RunServiceClient<InterceptedService<Channel, Token>>;

/// Returns a client, which connects at its first call: with the PEM file `ca` over TLS. The file
/// `token` needs TLS.
pub fn connect(
    address: &str,
    ca: Option<PathBuf>,
    token: Option<PathBuf>,
) -> Result<Client, Box<dyn Error>> {
    let endpoint = match ca {
        Some(file) => {
            let authorities = Certificate::from_pem(fs::read(file)?);
            let tls = ClientTlsConfig::new().ca_certificate(authorities);
            Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?
        }
        None if token.is_some() => return Err("a token is sent only over TLS".into()),
        None => Endpoint::from_shared(format!("http://{address}"))?,
    };
    Ok(Client::new(InterceptedService::new(endpoint.connect_lazy(), Token(token))))
}

/// Adds the token in a file to each call; it reads the file again, as it may be renewed.
#[derive(Clone)]
pub struct Token(Option<PathBuf>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(file) = &self.0 {
            let invalid = |e: &dyn Error| Status::unauthenticated(format!("token file: {e}"));
            let token = fs::read_to_string(file).map_err(|e| invalid(&e))?;
            let value = format!("Bearer {}", token.trim()).parse().map_err(|e| invalid(&e))?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// Asks for a run. Drop the future to cancel the call.
pub async fn get_run(
    mut client: Client,
    request: impl IntoRequest<GetRunRequest>,
    deadline: Duration,
) -> Result<Response<Run>, Status> {
    let mut request = request.into_request();
    request.set_timeout(deadline); // for the gateway
    tokio::select! {
        biased; // this timer before tonic's own, which would return CANCELLED
        () = sleep(deadline) => Err(Status::deadline_exceeded("the deadline has passed")),
        answer = client.get_run(request) => answer,
    }
}

/// Returns lines with the error's code and message, and with what a gateway adds.
pub fn explain(error: &Status) -> String {
    let details = error.get_error_details();
    let mut lines = vec![format!("{}: {}", code_name(error.code()), error.message())];
    lines.extend(details.error_info().map(|info| format!("reason: {}", info.reason)));
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        lines.push(format!("retry after: {} s", delay.as_secs_f64()));
    }
    for fault in details.bad_request().iter().flat_map(|request| &request.field_violations) {
        lines.push(format!("field {}: {}", fault.field, fault.description));
    }
    lines.extend(details.request_info().map(|info| format!("request id: {}", info.request_id)));
    lines.join("\n")
}

/// Returns a code's canonical name: NOT_FOUND for `Code::NotFound`.
pub fn code_name(code: Code) -> String {
    let letters = format!("{code:?}");
    let letters = letters.chars().flat_map(|c| [c.is_uppercase().then_some('_'), Some(c)]);
    letters.flatten().skip(1).collect::<String>().to_uppercase()
}

/// Returns AWS's word for the run's status, even if it is newer than the stubs.
pub fn status_of(run: &Run) -> &str {
    match run.unmodeled_json.get("status") {
        Some(json) => json.trim_matches('"'),
        None => run.status().as_str_name().trim_start_matches("RUN_STATUS_"),
    }
}
