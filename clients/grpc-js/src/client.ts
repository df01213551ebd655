/** Calls a HealthOmics gateway, and watches runs to their end: copy this file. */
import { readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import * as grpc from "@grpc/grpc-js";
import { BadRequest, ErrorInfo, RequestInfo, RetryInfo } from "../gen/google/rpc/error_details.js";
import { Status } from "../gen/google/rpc/status.js";
import { type Run, RunStatus } from "../gen/healthomics/v1/run.js";
import * as api from "../gen/healthomics/v1/run_service.js";

const MAX_FAILURES = 10; // streams in a row that end without any response
// Without a gateway's details, these codes mean that the stream was cut on its way.
const CUT = ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"];
export type Options = grpc.CallOptions & { metadata?: grpc.Metadata; signal?: AbortSignal };

/** Returns a client with a service config. The arguments but the address are names of files. */
export function connect(address: string, serviceConfig: string, tlsCa?: string, token?: string) {
  let credentials = grpc.credentials.createInsecure();
  if (tlsCa) credentials = grpc.credentials.createSsl(readFileSync(tlsCa));
  if (token) { // needs TLS
    credentials = credentials.compose(grpc.credentials.createFromMetadataGenerator((_, done) => {
      const text = readFileSync(token, "utf8"); // for each call, as it may be renewed
      done(null, grpc.Metadata.fromHttp2Headers({ authorization: `Bearer ${text.trim()}` }));
    }));
  }
  const options = { "grpc.service_config": readFileSync(serviceConfig, "utf8") };
  return new api.RunServiceClient(address, credentials, options);
}

/** Returns a run, within so many seconds for all attempts together. */
export function getRun(
  client: api.RunServiceClient, request: Partial<api.GetRunRequest>, seconds: number,
  { metadata = new grpc.Metadata(), signal, ...options }: Options = {},
): Promise<Run> {
  const deadline = Date.now() + seconds * 1000;
  return new Promise((resolve, reject) => cancelOn(signal, client.getRun(
    api.GetRunRequest.create(request), metadata, { ...options, deadline },
    (error, run) => error ? reject(error) : resolve(run),
  )));
}

/** Yields the states of a run until its end. Watches again if a stream breaks. */
export async function* watchRun(
  client: api.RunServiceClient, request: Partial<api.WatchRunRequest>,
  { metadata = new grpc.Metadata(), signal, ...options }: Options = {},
): AsyncGenerator<Run> {
  const current = api.WatchRunRequest.create(request);
  for (let failures = 0; ; failures++) {
    const call = cancelOn(signal, client.watchRun(current, metadata, options));
    try {
      for await (const { run } of call) {
        failures = 0;
        if (!run) continue; // a heartbeat
        current.uuid = run.uuid ?? current.uuid; // so that only this run is resumed
        yield run;
      }
      return;
    } catch (error) {
      const { code, info, retrySeconds } = explain(error);
      const backoff = Math.min(0.5 * 2 ** failures, 30) * (0.8 + 0.4 * Math.random());
      const wait = 1000 * (retrySeconds ?? (!info && CUT.includes(code) ? backoff : Infinity));
      const isLate = Date.now() + wait >= Number(options.deadline ?? Infinity);
      if (isLate || failures === MAX_FAILURES || signal?.aborted) throw error;
      await setTimeout(wait, null, { signal }).catch(() => {}); // then the next call throws
    } finally {
      call.cancel(); // if the caller's loop has ended early
    }
  }
}

function cancelOn<T extends grpc.Call>(signal: AbortSignal | undefined, call: T): T {
  const cancel = () => call.cancel();
  signal?.aborted ? cancel() : signal?.addEventListener("abort", cancel);
  call.on("status", () => signal?.removeEventListener("abort", cancel)); // the call's end
  return call;
}

/** Returns what an error of a call says. Only errors of a gateway have details. */
export function explain(error: unknown) {
  if (!(error instanceof Error && "metadata" in error)) throw error; // isn't a call's
  const { code, details, metadata } = error as grpc.ServiceError;
  const packed = metadata.get("grpc-status-details-bin")
    .flatMap((status) => Status.decode(status as Buffer).details);
  const find = <T>(type: { $type: string; decode(bytes: Uint8Array): T }) =>
    packed.filter((a) => a.typeUrl.endsWith(type.$type)).map((a) => type.decode(a.value))[0];
  const delay = find(RetryInfo)?.retryDelay;
  return {
    code: grpc.status[code]!, message: details, // the code is NOT_FOUND, for example
    info: find(ErrorInfo), // its reason is an ErrorReason without its prefix
    retrySeconds: delay && Number(delay.seconds) + delay.nanos / 1e9,
    fields: find(BadRequest)?.fieldViolations ?? [],
    requestId: find(RequestInfo)?.requestId,
  };
}

/** Returns AWS's word for the status, even if it is newer than the stubs. */
export function statusOf(run: Run): string {
  const newer = run.unmodeledJson["status"];
  return newer ? String(JSON.parse(newer)) : RunStatus[run.status] ?? String(run.status);
}
