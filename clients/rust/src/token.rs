//! Sends a token with each call.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Adds the token in a file to each call; it reads the file again, as it may be renewed.
#[derive(Clone)]
pub struct Token(pub Option<PathBuf>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(file) = &self.0 {
            // It may be being written: a watch tries again.
            let value = read_token(file).map_err(|e| Status::unavailable(e.to_string()))?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// Returns the value of `authorization`; an error if metadata can't have the token.
pub fn read_token(file: &Path) -> Result<MetadataValue<Ascii>, Box<dyn Error>> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    if text.trim().is_empty() || !text.trim().bytes().all(|byte| byte.is_ascii_graphic()) {
        let why = "a token has only visible ASCII characters";
        return Err(format!("{}: {why}", file.display()).into());
    }
    Ok(format!("Bearer {}", text.trim()).parse()?)
}
