//! Calls a HealthOmics gateway, and watches runs to their end.

pub mod client;
pub mod token;
pub mod watch;
pub mod pb {
    tonic::include_proto!("healthomics.v1"); // the stubs, which build.rs generates
}

/// Returns a code's canonical name: NOT_FOUND for `Code::NotFound`.
pub fn code_name(code: tonic::Code) -> String {
    let letters = format!("{code:?}");
    let letters = letters.chars().flat_map(|c| [c.is_uppercase().then_some('_'), Some(c)]);
    letters.flatten().skip(1).collect::<String>().to_uppercase()
}
