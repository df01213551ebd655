"""The HealthOmics gateway: GetRun of AWS HealthOmics over gRPC.

The rooms, in reading order; each knows only those below it:

* `cli` has the commands, `arguments` reads what they take, `commands` does them:
  `client` calls and watches, `patience` says when to try again, `channel` is
  the way to a gateway, in plaintext or over TLS, as whom;
  `follow` shows a watch, `failure` how a call failed, `show` a run as people and
  programs read it; `streams` is what a command prints to;
* `process` starts, handles `signals` and ends; `app` builds the stack, serves and
  drains;
* `listeners` opens, watches and ends all listeners;
* `server` is gRPC's, with the stages that each method's calls pass; `door` has the
  listeners, each with its address;
* `service` makes a request a query and an answer a response;
* `interceptors` is what every call passes through;
* `reflection` describes the services, `telemetry` logs events;
* `health` and `admin` tell others the gateway's state, by gRPC and by HTTP,
  `liveness` notices that no new call comes in any more;
* `readiness` is what calls depend on, part by part;
* `log_lines` renders events, `log_writer` writes the lines in a thread of its own;
* `settings` is what is set, `endpoints` the addresses that are served, `schema` what
  can be set;
* `tls` follows the files of the server's certificate, `certificates` checks what they
  hold;
* `tokens` reads whom a token names, `keys` keeps the keys that verify it, `keysource`
  fetches a set of them, `jwks` reads it; `identities` reads whom a certificate names;
* `requests` has the rules of the contract on them, `watch` is those who follow a run;
* `poll` asks for a run now and then, however many follow it;
* `selection` leaves out what the caller doesn't receive;
* `coalesce` is a source that asks the next one once for many callers, `retry` one that
  tries it again, `pace` one that waits for its call's turn;
* `upstream` is the source that is HealthOmics;
* `pacer` is the queue of the calls to one account, `bucket` its tokens, `places` how
  many requests are under way, `fairness` which call is next;
* `access` is what each caller may, by the operator's rules;
* `runs` is the one shape that every source has;
* `sources` reads settings and merges them, `variables` those of the environment,
  `kinds` is how each is written;
* `errors` is every error that can be answered, `durations` how times are written,
  `files` reads files of a bounded size, `hosts` resolves hosts, `pem` splits files of
  PEM, `threads` runs what blocks, `resolver` looks names up,
  `supervision` runs background tasks again that have failed, `spiffe` reads
  SPIFFE's names, `proxies` finds the proxy for a URL;
* `sandbox` is the embedded fake HealthOmics, which knows none of the above.

Where to begin:

* a new response field: `protos/healthomics/v1/run.proto`
* a new AWS error code: `server/healthomics_gateway/upstream/classify.py`
* a new error reason: `server/healthomics_gateway/errors/reasons.py`
* a new setting: `server/healthomics_gateway/settings/schema.py`
"""
