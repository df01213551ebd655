/** Calls a HealthOmics gateway, and watches runs to their end: copy this file. */
import { promises, readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { type CallOptions, type Client, type Interceptor } from "@connectrpc/connect";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import * as rpc from "../gen/google/rpc/error_details_pb.js";
import { type Run, RunStatus } from "../gen/healthomics/v1/run_pb.js";
import { RunService } from "../gen/healthomics/v1/run_service_pb.js";

export type RunClient = Client<typeof RunService>;
type GetRunInit = MessageInitShape<typeof RunService.method.getRun.input>;
type WatchRunInit = MessageInitShape<typeof RunService.method.watchRun.input>;

const MAX_FAILURES = 10; // streams in a row that end without any response
// Without a gateway's details, these codes mean that the stream was cut on its way.
const CUT = ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"];

/** Returns a client. The arguments but the address are names of files. */
export function connect(address: string, tlsCa?: string, token?: string): RunClient {
  if (token && !tlsCa) throw new Error("a token needs TLS");
  const sendToken: Interceptor = (next) => async (request) => {
    if (token) { // is read for each call, as it may be renewed
      const text = await promises.readFile(token, "utf8");
      request.header.set("authorization", `Bearer ${text.trim()}`);
    }
    return next(request);
  };
  return createClient(RunService, createGrpcTransport({
    baseUrl: `${tlsCa ? "https" : "http"}://${address}`,
    nodeOptions: tlsCa ? { ca: readFileSync(tlsCa) } : {},
    interceptors: [sendToken],
  }));
}

/** Returns a run, within so many seconds. It is tried once. */
export function getRun(
  client: RunClient, request: GetRunInit, seconds: number, options?: CallOptions,
): Promise<Run> {
  return client.getRun(request, { ...options, timeoutMs: seconds * 1000 });
}

/** Yields the states of a run until its end. Watches again if a stream breaks. */
export async function* watchRun(
  client: RunClient, request: WatchRunInit, options: CallOptions = {},
): AsyncGenerator<Run> {
  const { timeoutMs, signal } = options;
  const until = Date.now() + (timeoutMs ?? Infinity);
  let uuid = request.uuid ?? ""; // of the last state, so that only this run is resumed
  for (let failures = 0; ; failures++) {
    try {
      const left = { ...options, timeoutMs: timeoutMs && until - Date.now() };
      for await (const { run } of client.watchRun({ ...request, uuid }, left)) {
        failures = 0;
        if (!run) continue; // a heartbeat
        uuid = run.uuid ?? uuid;
        yield run;
      }
      return;
    } catch (error) {
      const { code, info, retrySeconds } = explain(error);
      const backoff = Math.min(0.5 * 2 ** failures, 30) * (0.8 + 0.4 * Math.random());
      const wait = 1000 * (retrySeconds ?? (!info && CUT.includes(code) ? backoff : Infinity));
      const isLate = Date.now() + wait >= until;
      if (isLate || failures === MAX_FAILURES || signal?.aborted) throw error;
      await setTimeout(wait, null, { signal }).catch(() => {}); // then the next call throws
    }
  }
}

/** Returns what an error of a call says. Only errors of a gateway have details. */
export function explain(error: unknown) {
  const failure = ConnectError.from(error);
  const name = Code[failure.code]!.replace("Canceled", "Cancelled"); // "NotFound", for example
  const [retry] = failure.findDetails(rpc.RetryInfoSchema);
  return {
    code: name.replace(/(?!^)[A-Z]/g, "_$&").toUpperCase(), // NOT_FOUND
    message: failure.rawMessage,
    info: failure.findDetails(rpc.ErrorInfoSchema)[0], // its reason lacks the enum's prefix
    retrySeconds: retry?.retryDelay && durationMs(retry.retryDelay) / 1000,
    fields: failure.findDetails(rpc.BadRequestSchema).flatMap((each) => each.fieldViolations),
    requestId: failure.findDetails(rpc.RequestInfoSchema)[0]?.requestId,
  };
}

/** Returns AWS's word for the status, even if it is newer than the stubs. */
export function statusOf(run: Run): string {
  const newer = run.unmodeledJson["status"];
  return newer ? String(JSON.parse(newer)) : RunStatus[run.status] ?? String(run.status);
}
