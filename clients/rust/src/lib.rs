//! Calls a HealthOmics gateway, and watches runs to their end.

pub mod client;
pub mod watch;
pub mod pb {
    tonic::include_proto!("healthomics.v1"); // the stubs, which build.rs generates
}
