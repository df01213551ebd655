"""The command line: `serve`, `sandbox`, `get`, `watch` and `settings`."""
