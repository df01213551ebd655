/** Runs the cases that it reads from stdin, and prints what each of them returned. */
import { readFileSync } from "node:fs";
import { type Interceptor, InterceptingCall, Metadata } from "@grpc/grpc-js";
import { Run, RunExport } from "../gen/healthomics/v1/run.js";
import { connect, explain, getRun, statusOf } from "./client.js";
import { watchRun } from "./watch.js";

interface Server { address: string; serviceConfig: string; tlsCa?: string; tokenFile?: string }
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
    const encoded = Buffer.from(Run.encode(run).finish()).toString("base64");
    report({ run: encoded, status: statusOf(run) });
  };
  const trailers: Record<string, unknown> = { "x-request-id": [], "x-amzn-requestid": [] };
  const readTrailers: Interceptor = (options, next) => new InterceptingCall(next(options), {
    start: (metadata, _, start) => start(metadata, {
      onReceiveStatus(status, pass) {
        for (const key in trailers) trailers[key] = status.metadata.get(key);
        pass(status);
      },
    }),
  });
  const cancel = new AbortController();
  const milliseconds = (each.cancelAfterSeconds ?? 1e6) * 1000;
  const timer = setTimeout(() => cancel.abort(), milliseconds);
  const metadata = Metadata.fromHttp2Headers({ "x-request-id": each.requestId });
  const options = { metadata, interceptors: [readTrailers], signal: cancel.signal };
  const { id, uuid, paths, maxStalenessSeconds, heartbeatSeconds } = each.request;
  const selected = { id, ...(paths && { readMask: paths }) };
  const client = connect(server.address, server.serviceConfig, server.tlsCa, server.tokenFile);
  const seconds = each.deadlineSeconds ?? LONG_SECONDS;
  try {
    if (each.method === "GetRun") {
      show(await getRun(client, {
        ...selected,
        export: each.request.export?.map((name) => RunExport[name]) ?? [],
        maxStaleness: duration(maxStalenessSeconds),
      }, seconds, options));
    } else {
      let states = 0;
      const deadline = Date.now() + seconds * 1000;
      const heartbeatInterval = duration(heartbeatSeconds);
      const request = { ...selected, ...(uuid && { uuid }), heartbeatInterval };
      for await (const run of watchRun(client, request, { ...options, deadline })) {
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
    report({ code, error, trailers });
  } finally {
    clearTimeout(timer);
    client.close();
  }
}

function duration(seconds?: number) {
  return seconds === undefined ? undefined : { seconds: BigInt(seconds), nanos: 0 };
}

const { servers, cases } = JSON.parse(readFileSync(0, "utf8")) as
  { servers: Record<string, Server>; cases: Case[] };
for (const each of cases) await runCase(servers[each.server]!, each);
