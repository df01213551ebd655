"""The HealthOmics gateway: GetRun of AWS HealthOmics over gRPC.

The packages and modules, in reading order. Each imports only from those in the items
below its own, and `make lint` checks that:

* `cli` is the command line;
* `check` checks what a gateway needs before it serves;
* `workers` serves by several processes: a supervisor, a zygote and workers;
* `app` is one gateway process: its composition, listeners and shutdown;
* `services` has the gRPC services, `interceptors` the code around every call,
  `settings` the settings and their sources;
* `context` is the state of one call;
* `auth` authenticates and authorizes callers, `upstream` has everything about AWS;
* `runs` has the sources of runs: caching, retrying, rate limiting and watching; `tls`
  reads, checks and reloads the server's certificates;
* `shared` is what several processes share: a store, and each one's relation to it;
* `errors` has every error that the gateway can return, `telemetry` the log, the
  metrics, the traces and the records of the status page, `net` addresses, names and
  proxies;
* `background` runs background tasks, `backoff` computes the pauses between attempts,
  `configuration_error` is the exception that reports faults of settings, flags and
  files, `control` sends messages between processes, `durations` parses and formats
  durations, `files` reads files, `pem` splits PEM files into blocks, `threads` runs
  blocking work, `token_bucket` limits rates, `version` has the version of this gateway;
* `sandbox` is the embedded fake HealthOmics, which imports nothing from the others.

Where to begin:

* a new response field: `protos/healthomics/v1/run.proto`
* a new AWS error code: `server/healthomics_gateway/upstream/classify.py`
* a new error reason: `server/healthomics_gateway/errors/reasons.py`
* a new setting: `server/healthomics_gateway/settings/schema.py`
"""
