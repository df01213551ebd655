"""The HealthOmics gateway: GetRun of AWS HealthOmics over gRPC.

The packages and modules, in reading order. Each imports only from those on the lines
below its own:

* `cli` is the command line;
* `app` is one gateway process: composed, listening, drained, ended;
* `services` has the gRPC services, `interceptors` what every call passes, `settings`
  what can be set and where it comes from;
* `context` is the state of one call;
* `auth` finds out who calls and what they may do, `upstream` is everything that knows
  AWS;
* `runs` has the sources of runs: caching, retrying, rate limiting and watching; `tls`
  reads, checks and reloads the server's certificates;
* `errors` has every error that the gateway can return, `telemetry` the log, `net`
  addresses, names and proxies, `background` tasks that run as long as the gateway,
  `durations`, `files` and `pem` read what people write, `threads` runs what blocks,
  `token_bucket` limits rates;
* `sandbox` is the embedded fake HealthOmics, which imports nothing of the above.

Where to begin:

* a new response field: `protos/healthomics/v1/run.proto`
* a new AWS error code: `server/healthomics_gateway/upstream/classify.py`
* a new error reason: `server/healthomics_gateway/errors/reasons.py`
* a new setting: `server/healthomics_gateway/settings/schema.py`
"""
