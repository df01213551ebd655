"""One gateway process: composed, listening, drained, ended."""
