/** The calls that the page makes, for copying: nothing in this file needs the page. */
import { Code, ConnectError, type Client } from "@connectrpc/connect";
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";
import { RunStatus, type Run } from "./gen/healthomics/v1/run_pb.js";
import type { RunService } from "./gen/healthomics/v1/run_service_pb.js";

const MAX_RETRIES = 10; // in a row, without any response
const [MIN_SECONDS, MAX_SECONDS] = [0.05, 3600]; // of a wait: the gateway's are within a minute
const HEARTBEAT = { seconds: 20n }; // many proxies end a stream that is silent for a minute
// Without a gateway's details, these codes mean that the stream was cut on its way.
const CUT = ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"];

/** What an error says. Only errors of a gateway have a reason and a request id. */
export interface Failure {
  code: string; // NOT_FOUND, for example
  message: string;
  reason: string; // an ErrorReason without its prefix, or empty
  retrySeconds: number | undefined;
  fields: { field: string; description: string }[];
  requestId: string;
}

/** Returns the run as it is now, within ten seconds. */
export function getRun(
  client: Client<typeof RunService>, id: string, signal: AbortSignal,
): Promise<Run> {
  return client.getRun({ id }, { signal, timeoutMs: 10_000 });
}

/**
 * Yields the states of a run until its end. If a stream breaks, it opens another; `onWait` gets
 * the seconds until then.
 */
export async function* watchRun(
  client: Client<typeof RunService>, id: string, signal: AbortSignal,
  onWait: (seconds: number) => void = () => {},
): AsyncGenerator<Run> {
  for (let uuid = "", failures = 0; ; failures++) {
    try {
      const request = { id, uuid, heartbeatInterval: HEARTBEAT };
      for await (const { run } of client.watchRun(request, { signal })) {
        failures = 0;
        if (run) { // else it is a heartbeat
          uuid = run.uuid || uuid; // to watch only this run again; a read mask may leave it out
          yield run;
        }
      }
      return;
    } catch (error) {
      const seconds = retryDelay(error, failures);
      if (seconds === undefined || failures === MAX_RETRIES || signal.aborted) throw error;
      onWait(seconds);
      const end = AbortSignal.any([signal, AbortSignal.timeout(seconds * 1000)]);
      if (!end.aborted) await new Promise((resolve) => end.addEventListener("abort", resolve));
    }
  }
}

/** Returns the seconds until the next stream, or undefined if the error is final. */
function retryDelay(error: unknown, failures: number): number | undefined {
  const { code, reason, retrySeconds } = explain(error);
  if (retrySeconds !== undefined) return Math.min(Math.max(retrySeconds, MIN_SECONDS), MAX_SECONDS);
  if (reason || !CUT.includes(code)) return undefined;
  return Math.min(0.5 * 2 ** failures, 30) * (0.8 + 0.4 * Math.random());
}

/** Reads the typed details of an error. */
export function explain(error: unknown): Failure {
  if (!(error instanceof ConnectError)) throw error; // not the error of a call
  const name = Code[error.code]!.replace("Canceled", "Cancelled"); // "NotFound", for example
  const retry = error.findDetails(RetryInfoSchema)[0];
  return {
    code: name.replace(/(?!^)[A-Z]/g, "_$&").toUpperCase(),
    message: error.rawMessage,
    reason: error.findDetails(ErrorInfoSchema)[0]?.reason ?? "",
    retrySeconds: retry && (retry.retryDelay ? durationMs(retry.retryDelay) / 1000 : 0),
    fields: error.findDetails(BadRequestSchema).flatMap((each) => each.fieldViolations),
    requestId: error.findDetails(RequestInfoSchema)[0]?.requestId ?? "",
  };
}

/** Returns AWS's word for the status, even if it is newer than the stubs. */
export function statusOf(run: Run): string {
  const newer = run.unmodeledJson["status"];
  const word: unknown = newer ? JSON.parse(newer) : RunStatus[run.status] ?? run.status;
  return typeof word === "string" ? word : JSON.stringify(word);
}
