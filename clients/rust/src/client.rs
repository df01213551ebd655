//! Calls a HealthOmics gateway: copy this file and `watch.rs`.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::sleep;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::{Interceptor, interceptor::InterceptedService};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{IntoRequest, Request, Response, Status};

use crate::pb::{GetRunRequest, Run, RunStatus, run_service_client::RunServiceClient};

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
    Ok(Client::new(InterceptedService::new(endpoint.connect_lazy(), Token(token))))
}

/// Adds the token in a file to each call; it reads the file again, as it may be renewed.
#[derive(Clone)]
pub struct Token(Option<PathBuf>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(file) = &self.0 {
            let value = read_token(file).map_err(|e| Status::unauthenticated(e.to_string()))?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// Returns the value of `authorization`; an error if metadata can't have the token.
fn read_token(file: &Path) -> Result<MetadataValue<Ascii>, Box<dyn Error>> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    if text.trim().is_empty() || !text.trim().bytes().all(|byte| byte.is_ascii_graphic()) {
        let why = "a token has only visible ASCII characters";
        return Err(format!("{}: {why}", file.display()).into());
    }
    Ok(format!("Bearer {}", text.trim()).parse()?)
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
