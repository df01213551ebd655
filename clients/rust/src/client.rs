//! Calls a HealthOmics gateway: copy this file, `token.rs` and `watch.rs`.

use std::{error::Error, fs, path::PathBuf, time::Duration};

use tokio::time::sleep;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{IntoRequest, Request, Response, Status};

use crate::pb::{GetRunRequest, Run, RunStatus, run_service_client::RunServiceClient};
use crate::token::{Token, read_token};

/// A client has the stub's methods. A clone is cheap, and uses the same connection.
pub type Client = RunServiceClient<InterceptedService<Channel, Token>>;

/// Returns a client that connects at its first call. With `ca`, a PEM file, it uses TLS. `token`
/// needs `ca`. All arguments except the address are file names.
pub fn connect(
    address: &str,
    ca: Option<PathBuf>,
    token: Option<PathBuf>,
) -> Result<Client, Box<dyn Error>> {
    let endpoint = match ca {
        Some(file) => {
            let pem = fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            let authorities = Certificate::from_pem(pem);
            let tls = ClientTlsConfig::new().ca_certificate(authorities);
            Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?
        }
        None if token.is_some() => return Err("a token is sent only over TLS".into()),
        None => Endpoint::from_shared(format!("http://{address}"))?,
    };
    if let Some(file) = &token {
        read_token(file)?; // fails now, not in each call
    }
    // Pings find a dead connection, also while a watch is silent.
    let endpoint = endpoint
        .http2_keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20));
    Ok(Client::new(InterceptedService::new(endpoint.connect_lazy(), Token(token))))
}

/// Asks for a run. The deadline covers all attempts: tonic makes one. Drop the future to cancel.
pub async fn get_run(
    mut client: Client,
    request: impl IntoRequest<GetRunRequest>,
    deadline: Duration,
) -> Result<Response<Run>, Status> {
    let mut request = request.into_request();
    request.set_timeout(deadline); // for the gateway
    in_time(deadline, client.get_run(request)).await
}

/// Awaits a call, but no longer than `left`. tonic's own timer would return CANCELLED.
pub async fn in_time<T>(
    left: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    tokio::select! {
        biased; // this timer first: tonic's would return CANCELLED
        () = sleep(left) => Err(Status::deadline_exceeded("the deadline has passed")),
        answer = call => answer,
    }
}

/// Returns AWS's word for the run's status, even if it is newer than the stubs.
pub fn status_of(run: &Run) -> String {
    if let Some(json) = run.unmodeled_json.get("status") {
        return serde_json::from_str(json).unwrap_or_else(|_| json.clone()); // it isn't a string
    }
    let Ok(status) = RunStatus::try_from(run.status) else { return run.status.to_string() };
    let name = status.as_str_name();
    name.strip_prefix("RUN_STATUS_").unwrap_or(name).into()
}
