/** The calls that the page makes, for copying: nothing in this file needs the page. */
import { Code, ConnectError, type Client } from "@connectrpc/connect";
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb";
import { RunStatus, type Run } from "./gen/healthomics/v1/run_pb";
import type { RunService } from "./gen/healthomics/v1/run_service_pb";

const MAX_FAILURES = 10; // streams in a row that end without any response
const HEARTBEAT = { seconds: 20n }; // many proxies end a stream that is silent for a minute
// The codes, without a reason, of a stream that was cut on its way.
const CUT = [
  Code.Unavailable, Code.Internal, Code.Unknown, Code.Canceled, Code.DeadlineExceeded,
];

/** What an error says. Only errors of a gateway have a reason and a request id. */
export interface Failure {
  code: string; // NOT_FOUND, for example
  message: string;
  reason: string; // an ErrorReason without its prefix, or empty
  retrySeconds?: number;
  fields: { field: string; description: string }[];
  requestId: string;
}

/** Returns the run as it is now, within ten seconds. */
export function getRun(
  client: Client<typeof RunService>, id: string, signal: AbortSignal,
): Promise<Run> {
  return client.getRun({ id }, { signal, timeoutMs: 10_000 });
}

/** Yields the run's states until it has ended; watches again if a stream breaks. */
export async function* watchRun(
  client: Client<typeof RunService>, id: string, signal: AbortSignal,
): AsyncGenerator<Run> {
  for (let uuid = "", failures = 0; ; failures++) {
    try {
      const request = { id, uuid, heartbeatInterval: HEARTBEAT };
      for await (const { run } of client.watchRun(request, { signal })) {
        failures = 0;
        if (run) { // a heartbeat has none
          uuid = run.uuid ?? uuid; // resumes this run only
          yield run;
        }
      }
      return;
    } catch (error) {
      const seconds = retryDelay(error, failures);
      if (seconds === undefined || failures === MAX_FAILURES || signal.aborted) throw error;
      await new Promise((resolve) => {
        setTimeout(resolve, seconds * 1000);
        signal.addEventListener("abort", resolve);
      });
    }
  }
}

/**
 * Returns the seconds until the next attempt: RetryInfo's delay, or a back-off if the
 * stream was cut. They are undefined if the error is final.
 */
function retryDelay(error: unknown, failures: number): number | undefined {
  const { reason, retrySeconds } = explain(error);
  if (reason) return retrySeconds;
  if (!CUT.includes(ConnectError.from(error).code)) return undefined;
  return Math.min(0.5 * 2 ** failures, 30) * (0.8 + 0.4 * Math.random());
}

/** Reads the typed details of an error. */
export function explain(error: unknown): Failure {
  const failure = ConnectError.from(error);
  const retry = failure.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return {
    code: Code[failure.code].replace(/(?!^)[A-Z]/g, "_$&").toUpperCase(),
    message: failure.rawMessage,
    reason: failure.findDetails(ErrorInfoSchema)[0]?.reason ?? "",
    retrySeconds: retry && durationMs(retry) / 1000,
    fields: failure.findDetails(BadRequestSchema).flatMap((each) => each.fieldViolations),
    requestId: failure.findDetails(RequestInfoSchema)[0]?.requestId ?? "",
  };
}

/** Returns AWS's word for the status, even if it is newer than the stubs. */
export function statusOf(run: Run): string {
  const newer = run.unmodeledJson["status"];
  return newer ? String(JSON.parse(newer)) : RunStatus[run.status];
}
