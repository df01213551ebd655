//! Asks a HealthOmics gateway for a run, or watches it to its end.

use std::{fmt::Display, path::PathBuf, pin::pin, time::Duration};

use clap::{Parser, ValueEnum};
use runs::client::{connect, explain, get_run, status_of};
use runs::pb::{GetRunRequest, WatchRunRequest};
use runs::watch::watch_run;
use tokio_stream::StreamExt;

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
    #[arg(long, default_value = "5", value_name = "SECONDS")]
    deadline: f64,
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
    let deadline = Duration::try_from_secs_f64(deadline).unwrap_or_else(|error| fail(2, error));
    let client = connect(&address, tls_ca, token_file).unwrap_or_else(|error| fail(2, error));
    if let Command::Get = command {
        let call = get_run(client, GetRunRequest { id, ..Default::default() }, deadline);
        let answer = call.await.unwrap_or_else(|error| fail(1, explain(&error)));
        println!("status: {}", status_of(answer.get_ref()));
        return;
    }
    let mut states = pin!(watch_run(client, WatchRunRequest { id, ..Default::default() }));
    while let Some(state) = states.next().await {
        let run = state.unwrap_or_else(|error| fail(1, explain(&error)));
        println!("status: {}", status_of(&run));
    }
}

fn fail(code: i32, message: impl Display) -> ! {
    eprintln!("{message}");
    std::process::exit(code)
}
