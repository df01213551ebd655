/** Watches runs to their end. */
import { setTimeout } from "node:timers/promises";
import { Metadata } from "@grpc/grpc-js";
import type { Run } from "../gen/healthomics/v1/run.js";
import { type RunServiceClient, WatchRunRequest } from "../gen/healthomics/v1/run_service.js";
import { cancelOn, explain, type Options } from "./client.js";

const MAX_RETRIES = 10; // in a row, without any response
const [MIN_SECONDS, MAX_SECONDS] = [0.05, 3600]; // of a wait: the gateway's are within a minute
// Without a gateway's details, these codes mean that the stream was cut on its way.
const CUT = ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"];

/**
 * Yields the states of a run until its end. If a stream breaks, it opens another. It throws
 * an error that is final, and the last one if the deadline leaves no time for the wait.
 */
export async function* watchRun(
  client: RunServiceClient, request: Partial<WatchRunRequest>,
  { metadata = new Metadata(), signal, ...options }: Options = {},
): AsyncGenerator<Run> {
  const current = WatchRunRequest.create(request); // a copy
  const deadline = Number(options.deadline ?? Infinity);
  for (let failures = 0; ; failures++) {
    const call = cancelOn(signal, client.watchRun(current, metadata, options));
    try {
      for await (const { run } of call) {
        failures = 0;
        if (run) { // else it is a heartbeat
          // to watch only this run again; a read mask may leave it out
          current.uuid = run.uuid || current.uuid;
          yield run;
        }
      }
      return;
    } catch (error) {
      const wait = retryDelay(error, failures);
      if (wait === undefined || failures === MAX_RETRIES || signal?.aborted) throw error;
      if (Date.now() + wait * 1000 >= deadline) throw error;
      await setTimeout(wait * 1000, null, { signal }).catch(() => {}); // then the next call throws
    } finally {
      call.cancel(); // if the caller's loop has ended early
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
