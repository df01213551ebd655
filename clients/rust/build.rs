//! Generates the stubs, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["healthomics/v1/run_service.proto", "healthomics/v1/error_reason.proto"];
    let protos = protox::compile(files, ["../../protos"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(protos)?;
    Ok(())
}
