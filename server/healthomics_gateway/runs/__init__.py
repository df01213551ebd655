"""Sources of runs: cache, single flight, retries, rate limit and watches."""
