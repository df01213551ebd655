//! Asks a HealthOmics gateway for a run, or watches it to its end.

use std::{fmt::Display, path::PathBuf, pin::pin, time::Duration};

use clap::{Parser, ValueEnum};
use runs::client::{connect, get_run, status_of};
use runs::code_name;
use runs::pb::{GetRunRequest, WatchRunRequest};
use runs::watch::watch_run;
use tokio_stream::StreamExt;
use tonic::Status;
use tonic_types::StatusExt;

const WATCH: Duration = Duration::from_secs(14 * 24 * 3600); // longer than a run takes

/// Asks a HealthOmics gateway for a run, or watches it to its end.
#[derive(Parser)]
struct Options {
    command: Command,
    /// The run's id, 1 to 18 digits
    id: String,
    /// The gateway's HOST:PORT
    #[arg(long, default_value = "127.0.0.1:50051")]
    address: String,
    /// How long `get` may take, in seconds
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = seconds)]
    deadline: Duration,
    /// Use TLS, and trust the authorities in this file
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Send the token in this file with each call
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    token_file: Option<PathBuf>,
}

#[derive(Clone, ValueEnum)]
enum Command {
    Get,
    Watch,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let Options { command, id, address, deadline, tls_ca, token_file } = Options::parse();
    let client = connect(&address, tls_ca, token_file).unwrap_or_else(|error| fail(2, error));
    if let Command::Get = command {
        let call = get_run(client, GetRunRequest { id, ..Default::default() }, deadline);
        let answer = call.await.unwrap_or_else(|error| fail(1, text_of(&error)));
        println!("status: {}", status_of(answer.get_ref()));
        return;
    }
    let mut states = pin!(watch_run(client, WatchRunRequest { id, ..Default::default() }, WATCH));
    while let Some(state) = states.next().await {
        let run = state.unwrap_or_else(|error| fail(1, text_of(&error)));
        println!("status: {}", status_of(&run));
    }
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let deadline = text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    let valid = deadline.filter(|deadline| !deadline.is_zero() && *deadline < WATCH);
    valid.ok_or("must be a number more than 0, and less than 14 days")
}

/// Returns lines with the error's code and message, and with what a gateway adds.
fn text_of(error: &Status) -> String {
    let details = error.get_error_details();
    let mut lines = vec![format!("{}: {}", code_name(error.code()), error.message())];
    lines.extend(details.error_info().map(|info| format!("reason: {}", info.reason)));
    if let Some(retry) = details.retry_info() {
        let delay = retry.retry_delay.unwrap_or_default();
        lines.push(format!("retry after: {} s", delay.as_secs_f64()));
    }
    for fault in details.bad_request().iter().flat_map(|request| &request.field_violations) {
        lines.push(format!("field {}: {}", fault.field, fault.description));
    }
    lines.extend(details.request_info().map(|info| format!("request id: {}", info.request_id)));
    lines.join("\n")
}

fn fail(code: i32, message: impl Display) -> ! {
    eprintln!("{message}");
    std::process::exit(code)
}
