/** Runs the cases that it reads from stdin, and prints what each of them returned. */
import { readFileSync } from "node:fs";
import { toBinary } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { type Run, RunExport, RunSchema } from "../gen/healthomics/v1/run_pb.js";
import { connect, explain, getRun, statusOf } from "./client.js";
import { watchRun } from "./watch.js";

interface Server { address: string; tlsCa?: string; tokenFile?: string }
interface Case {
  name: string; server: string; method: "GetRun" | "WatchRun"; requestId: string;
  request: {
    id: string; uuid?: string; paths?: string[];
    maxStalenessSeconds?: number; heartbeatSeconds?: number;
    export?: (keyof typeof RunExport)[];
  };
  deadlineSeconds?: number; cancelAfterSeconds?: number; cancelAfterStates?: number;
}

const LONG_SECONDS = 60; // for a call without a deadline in the list

async function runCase(server: Server, each: Case): Promise<void> {
  const report = (members: object) => console.log(JSON.stringify({ case: each.name, ...members }));
  const show = (run: Run) => {
    const encoded = Buffer.from(toBinary(RunSchema, run)).toString("base64");
    report({ run: encoded, status: statusOf(run) });
  };
  let trailers = trailersIn(new Headers());
  const cancel = new AbortController();
  const milliseconds = (each.cancelAfterSeconds ?? 1e6) * 1000;
  const timer = setTimeout(() => cancel.abort(), milliseconds);
  const options = {
    headers: { "x-request-id": each.requestId },
    signal: cancel.signal,
    onTrailer: (received: Headers) => { trailers = trailersIn(received); },
  };
  const { id, uuid, paths, maxStalenessSeconds, heartbeatSeconds } = each.request;
  const selected = { id, ...(paths && { readMask: { paths } }) };
  const client = connect(server.address, server.tlsCa, server.tokenFile);
  const seconds = each.deadlineSeconds ?? LONG_SECONDS;
  try {
    if (each.method === "GetRun") {
      show(await getRun(client, {
        ...selected,
        ...duration("maxStaleness", maxStalenessSeconds),
        export: each.request.export?.map((name) => RunExport[name]) ?? [],
      }, seconds, options));
    } else {
      let states = 0;
      const timeoutMs = seconds * 1000;
      const heartbeat = duration("heartbeatInterval", heartbeatSeconds);
      const request = { ...selected, ...(uuid && { uuid }), ...heartbeat };
      for await (const run of watchRun(client, request, { ...options, timeoutMs })) {
        show(run);
        if (++states === each.cancelAfterStates) cancel.abort();
      }
    }
    report({ code: "OK", error: null, trailers });
  } catch (thrown) {
    const { code, message, info, retrySeconds = null, fields, requestId = "" } = explain(thrown);
    const { reason = "", domain = "", metadata = {} } = info ?? {};
    const listed = Object.fromEntries(fields.map((field) => [field.field, field.description]));
    const error = { message, reason, domain, metadata, retrySeconds, fields: listed, requestId };
    report({ code, error, trailers: trailersIn(ConnectError.from(thrown).metadata) });
  } finally {
    clearTimeout(timer);
  }
}

function trailersIn(headers: Headers): Record<string, string[]> {
  const read = (key: string) => [key, headers.get(key)?.split(", ") ?? []];
  return Object.fromEntries(["x-request-id", "x-amzn-requestid"].map(read));
}

function duration(name: "maxStaleness" | "heartbeatInterval", seconds?: number) {
  return seconds === undefined ? {} : { [name]: { seconds: BigInt(seconds) } };
}

const { servers, cases } = JSON.parse(readFileSync(0, "utf8")) as
  { servers: Record<string, Server>; cases: Case[] };
for (const each of cases) await runCase(servers[each.server]!, each);
