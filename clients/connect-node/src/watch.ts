/** Watches runs to their end. */
import { setTimeout } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { CallOptions } from "@connectrpc/connect";
import type { Run } from "../gen/healthomics/v1/run_pb.js";
import type { RunService } from "../gen/healthomics/v1/run_service_pb.js";
import { explain, headerMs, type RunClient } from "./client.js";

type WatchRunInit = MessageInitShape<typeof RunService.method.watchRun.input>;

const MAX_RETRIES = 10; // in a row, without any response
const [MIN_SECONDS, MAX_SECONDS] = [0.05, 3600]; // of a wait: the gateway's are within a minute
// Without a gateway's details, these codes mean that the stream was cut on its way.
const CUT = [
  "UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED",
  "ABORTED", // the library's code if the connection was reset
  "DATA_LOSS", // the library's code if details are malformed
];

/**
 * Yields the states of a run until its end. If a stream breaks, it opens another. It throws
 * an error that is final, and the last one if `timeoutMs` leaves no time for the wait.
 */
export async function* watchRun(
  client: RunClient, request: WatchRunInit, options: CallOptions = {},
): AsyncGenerator<Run> {
  const { timeoutMs, signal } = options;
  const until = Date.now() + (timeoutMs ?? Infinity);
  let uuid = request.uuid ?? "";
  for (let failures = 0; ; failures++) {
    const left = { ...options };
    if (timeoutMs !== undefined) left.timeoutMs = headerMs(until - Date.now());
    try {
      for await (const { run } of client.watchRun({ ...request, uuid }, left)) {
        failures = 0;
        if (run) { // else it is a heartbeat
          uuid = run.uuid || uuid; // to watch only this run again; a read mask may leave it out
          yield run;
        }
      }
      return;
    } catch (error) {
      const wait = retryDelay(error, failures);
      if (wait === undefined || failures === MAX_RETRIES || signal?.aborted) throw error;
      if (Date.now() + wait * 1000 >= until) throw error;
      await setTimeout(wait * 1000, null, { signal }).catch(() => {}); // then the next call throws
    }
  }
}

/** Returns the seconds until the next stream, or undefined if the error is final. */
function retryDelay(error: unknown, failures: number): number | undefined {
  const { code, info, retrySeconds } = explain(error);
  if (retrySeconds !== undefined) {
    return Math.min(Math.max(retrySeconds, MIN_SECONDS), MAX_SECONDS);
  }
  if (info || !CUT.includes(code)) return undefined;
  return Math.min(0.5 * 2 ** failures, 30) * (0.8 + 0.4 * Math.random());
}
