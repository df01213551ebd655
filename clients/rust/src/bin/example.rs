//! Asks for a run, and watches it to its end.

use std::{error::Error, pin::pin, process, time::Duration};

use runs::client::{Client, connect, get_run, status_of};
use runs::code_name;
use runs::pb::{GetRunRequest, WatchRunRequest};
use runs::watch::watch_run;
use tokio_stream::StreamExt;
use tonic::Status;
use tonic_types::StatusExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let id = std::env::args().nth(1).ok_or("the run's id is missing")?;
    let client = connect("127.0.0.1:50051", None, None)?;
    let Err(error) = show(client, id).await else { return Ok(()) };
    eprintln!("{}: {}", code_name(error.code()), error.message());
    if let Some(info) = error.get_details_error_info() {
        eprintln!("reason: {}", info.reason);
    }
    process::exit(1)
}

async fn show(client: Client, id: String) -> Result<(), Status> {
    let request = GetRunRequest { id: id.clone(), ..Default::default() };
    let answer = get_run(client.clone(), request, Duration::from_secs(5)).await?;
    println!("get: {}", status_of(answer.get_ref()));
    let day = Duration::from_secs(24 * 3600);
    let mut states = pin!(watch_run(client, WatchRunRequest { id, ..Default::default() }, day));
    while let Some(run) = states.next().await {
        println!("watch: {}", status_of(&run?));
    }
    Ok(())
}
