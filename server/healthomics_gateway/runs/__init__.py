"""Sources of runs: caching, retrying, rate limiting and watching."""
