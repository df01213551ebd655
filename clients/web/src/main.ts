/** The page: shows a run, or watches it until it has ended. */
import { ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { timestampDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import type { Run } from "./gen/healthomics/v1/run_pb.js";
import { RunService } from "./gen/healthomics/v1/run_service_pb.js";
import { explain, getRun, statusOf, watchRun } from "./runs.js";

// The example's proxy takes both protocols; Envoy's filter takes only gRPC-Web.
const createTransport = new URLSearchParams(location.search).has("grpcweb")
  ? createGrpcWebTransport
  : createConnectTransport;
const client = createClient(RunService, createTransport({ baseUrl: location.origin }));

const find = (id: string): HTMLElement => document.getElementById(id)!;
const form = document.querySelector("form")!;
const [progress, problem, facts, states] = ["progress", "problem", "facts", "states"].map(find);
let current = new AbortController(); // of the call whose answers are shown

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const data = new FormData(form, event.submitter);
  void start(data.get("action") === "watch" ? watch : show, String(data.get("id")).trim());
});
find("stop").addEventListener("click", () => current.abort());

type Call = (id: string, signal: AbortSignal) => Promise<string | void>; // says how it ended

/** Ends the call before, and begins another one. */
async function start(call: Call, id: string): Promise<void> {
  current.abort();
  const { signal } = (current = new AbortController());
  for (const each of [problem, facts, states]) each.replaceChildren();
  progress.textContent = "Asking for the run…";
  form.toggleAttribute("data-watching", call === watch);
  const outcome = await call(id, signal).catch((error: unknown) =>
    signal.aborted ? "Stopped." : showFailure(error),
  );
  if (signal !== current.signal) return; // another call has begun
  progress.textContent = outcome ?? "";
  form.toggleAttribute("data-watching", false);
}

async function show(id: string, signal: AbortSignal): Promise<void> {
  showRun(await getRun(client, id, signal));
}

async function watch(id: string, signal: AbortSignal): Promise<string> {
  let last = "";
  const showWait = () => { progress.textContent = "The stream ended early. Trying again…"; };
  for await (const run of watchRun(client, id, signal, showWait)) {
    progress.textContent = "Watching the run…";
    showRun(run);
    if (statusOf(run) === last) continue; // a new stream begins with the current state
    last = statusOf(run);
    states.append(document.createElement("li"));
    states.lastElementChild!.append(time(run.observeTime), ` ${last}`);
  }
  return "The run has ended.";
}

function showRun(run: Run): void {
  facts.replaceChildren();
  add(facts, "Status", statusOf(run))!.dataset["status"] = statusOf(run);
  add(facts, "Status message", run.statusMessage);
  add(facts, "Failure reason", run.failureReason);
  add(facts, "Name", run.name);
  add(facts, "Created", time(run.creationTime));
  add(facts, "Started", time(run.startTime));
  add(facts, "Stopped", time(run.stopTime));
}

function showFailure(error: unknown): void {
  if (!(error instanceof ConnectError)) return void add(problem, "Error", String(error));
  const failure = explain(error);
  add(problem, "Error", failure.message || failure.code);
  add(problem, "Code", failure.code);
  add(problem, "Reason", failure.reason);
  for (const { field, description } of failure.fields) add(problem, field, description);
  const wait = failure.retrySeconds;
  add(problem, "Retry after", wait === undefined ? "" : `${wait} s`);
  add(problem, "Request id", failure.requestId);
}

/** Adds a row to a list, unless it has no value. */
function add(list: HTMLElement, name: string, value?: string | Node): HTMLElement | undefined {
  if (!value) return undefined;
  const content = document.createElement("dd");
  content.append(value);
  list.append(Object.assign(document.createElement("dt"), { textContent: name }), content);
  return content;
}

function time(at?: Timestamp): Node | string {
  if (!at) return "";
  const date = timestampDate(at);
  const texts = { dateTime: date.toISOString(), textContent: date.toLocaleString() };
  return Object.assign(document.createElement("time"), texts);
}
