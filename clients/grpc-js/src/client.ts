/** Calls a HealthOmics gateway, and reads its errors: copy this file and watch.ts. */
import { readFileSync } from "node:fs";
import * as grpc from "@grpc/grpc-js";
import { BadRequest, ErrorInfo, RequestInfo, RetryInfo } from "../gen/google/rpc/error_details.js";
import { Status } from "../gen/google/rpc/status.js";
import { type Run, RunStatus } from "../gen/healthomics/v1/run.js";
import { GetRunRequest, RunServiceClient } from "../gen/healthomics/v1/run_service.js";

export type Options = grpc.CallOptions & { metadata?: grpc.Metadata; signal?: AbortSignal };

/** Returns a client. All arguments except the address are file names; a token needs TLS. */
export function connect(address: string, serviceConfig: string, tlsCa?: string, token?: string) {
  let credentials = grpc.credentials.createInsecure();
  if (tlsCa) credentials = grpc.credentials.createSsl(readFileSync(tlsCa));
  if (token && !tlsCa) throw new Error("a token needs TLS");
  if (token) {
    readToken(token); // fails now, not in each call
    credentials = credentials.compose(grpc.credentials.createFromMetadataGenerator((_, done) => {
      try { // it is read for each call, as it may be renewed
        const authorization = `Bearer ${readToken(token)}`;
        done(null, grpc.Metadata.fromHttp2Headers({ authorization }));
      } catch (error) {
        done(Object.assign(error as Error, { code: grpc.status.UNAVAILABLE })); // tried again
      }
    }));
  }
  const options = {
    "grpc.service_config": readFileSync(serviceConfig, "utf8"),
    "grpc.keepalive_time_ms": 60_000, // finds a dead connection, also while a watch is silent
    "grpc.keepalive_timeout_ms": 20_000,
  };
  return new RunServiceClient(address, credentials, options);
}

/** Returns the token in a file; throws if metadata can't have it. */
export function readToken(file: string): string {
  const text = readFileSync(file, "utf8").trim();
  if (!/^[!-~]+$/.test(text)) throw new Error(`${file}: a token has only visible ASCII characters`);
  return text;
}

/** Returns a run. The deadline, in seconds, covers all attempts. */
export function getRun(
  client: RunServiceClient, request: Partial<GetRunRequest>, seconds: number,
  { metadata = new grpc.Metadata(), signal, ...options }: Options = {},
): Promise<Run> {
  const deadline = Date.now() + seconds * 1000;
  return new Promise((resolve, reject) => cancelOn(signal, client.getRun(
    GetRunRequest.create(request), metadata, { ...options, deadline },
    (error, run) => error ? reject(error) : resolve(run),
  )));
}

/** Cancels a call when its signal is aborted. */
export function cancelOn<T extends grpc.Call>(signal: AbortSignal | undefined, call: T): T {
  const cancel = () => call.cancel();
  if (signal?.aborted) cancel();
  else signal?.addEventListener("abort", cancel);
  call.on("status", () => signal?.removeEventListener("abort", cancel)); // the call's end
  return call;
}

/** Returns what an error of a call says. Only errors of a gateway have details. */
export function explain(error: unknown) {
  if (!(error instanceof Error && "metadata" in error)) throw error; // not the error of a call
  const { code, details, metadata } = error as grpc.ServiceError;
  const [status] = metadata.get("grpc-status-details-bin") as Buffer[];
  const find = <T>(type: { $type: string; decode(bytes: Uint8Array): T }): T | undefined => {
    try {
      const packed = status && Status.decode(status).details
        .find((each) => each.typeUrl.endsWith(`/${type.$type}`));
      return packed && type.decode(packed.value);
    } catch { // a proxy has changed them
      return undefined;
    }
  };
  const retry = find(RetryInfo);
  const { seconds = 0n, nanos = 0 } = retry?.retryDelay ?? {};
  return {
    code: grpc.status[code] ?? String(code), message: details, // the code is NOT_FOUND, for example
    info: find(ErrorInfo), // its reason is an ErrorReason without its prefix
    retrySeconds: retry && Number(seconds) + nanos / 1e9,
    fields: find(BadRequest)?.fieldViolations ?? [],
    requestId: find(RequestInfo)?.requestId,
  };
}

/** Returns AWS's word for the status, even if it is newer than the stubs. */
export function statusOf(run: Run): string {
  const newer = run.unmodeledJson["status"];
  const word: unknown = newer ? JSON.parse(newer) : RunStatus[run.status] ?? run.status;
  return typeof word === "string" ? word : JSON.stringify(word);
}
