/** Calls a HealthOmics gateway, and reads its errors: copy this file and watch.ts. */
import { readFileSync } from "node:fs";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { CallOptions, Client, Interceptor } from "@connectrpc/connect";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import * as rpc from "../gen/google/rpc/error_details_pb.js";
import { type Run, RunStatus } from "../gen/healthomics/v1/run_pb.js";
import { RunService } from "../gen/healthomics/v1/run_service_pb.js";

export type RunClient = Client<typeof RunService>;
type GetRunInit = MessageInitShape<typeof RunService.method.getRun.input>;

/** Returns a client. All arguments except the address are file names; a token needs TLS. */
export function connect(address: string, tlsCa?: string, token?: string): RunClient {
  if (token && !tlsCa) throw new Error("a token needs TLS");
  const sendToken: Interceptor = (next) => async (request) => {
    try { // it is read for each call, as it may be renewed
      if (token) request.header.set("authorization", `Bearer ${readToken(token)}`);
    } catch (error) {
      throw new ConnectError((error as Error).message, Code.Unavailable); // may be being written
    }
    return next(request);
  };
  if (token) readToken(token); // fails now, not in each call
  return createClient(RunService, createGrpcTransport({
    baseUrl: `${tlsCa ? "https" : "http"}://${address}`,
    nodeOptions: tlsCa ? { ca: readFileSync(tlsCa) } : {},
    interceptors: [sendToken],
    pingIntervalMs: 60_000, // finds a dead connection, also while a watch is silent
    pingTimeoutMs: 20_000,
  }));
}

/** Returns the token in a file; throws if metadata can't have it. */
export function readToken(file: string): string {
  const text = readFileSync(file, "utf8").trim();
  if (!/^[!-~]+$/.test(text)) throw new Error(`${file}: a token has only visible ASCII characters`);
  return text;
}

/** Returns a run. The deadline, in seconds, is for the only attempt: the library has no retries. */
export function getRun(
  client: RunClient, request: GetRunInit, seconds: number, options?: CallOptions,
): Promise<Run> {
  return client.getRun(request, { ...options, timeoutMs: headerMs(seconds * 1000) });
}

/** Returns a timeout that gRPC's header can hold: a whole number of at most eight digits. */
export function headerMs(milliseconds: number): number {
  return Math.ceil(Math.min(Math.max(milliseconds, 1), 99_999_999));
}

/** Returns what an error of a call says. Only errors of a gateway have details. */
export function explain(failure: unknown) {
  if (!(failure instanceof ConnectError)) throw failure; // not the error of a call
  const name = Code[failure.code]!.replace("Canceled", "Cancelled"); // "NotFound", for example
  const [retry] = failure.findDetails(rpc.RetryInfoSchema);
  return {
    code: name.replace(/(?!^)[A-Z]/g, "_$&").toUpperCase(), // NOT_FOUND
    message: failure.rawMessage,
    info: failure.findDetails(rpc.ErrorInfoSchema)[0], // its reason lacks the enum's prefix
    retrySeconds: retry && (retry.retryDelay ? durationMs(retry.retryDelay) / 1000 : 0),
    fields: failure.findDetails(rpc.BadRequestSchema).flatMap((each) => each.fieldViolations),
    requestId: failure.findDetails(rpc.RequestInfoSchema)[0]?.requestId,
  };
}

/** Returns AWS's word for the status, even if it is newer than the stubs. */
export function statusOf(run: Run): string {
  const newer = run.unmodeledJson["status"];
  const word: unknown = newer ? JSON.parse(newer) : RunStatus[run.status] ?? run.status;
  return typeof word === "string" ? word : JSON.stringify(word);
}
