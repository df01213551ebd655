/** Asks a HealthOmics gateway for a run, or watches it to its end. */
import { parseArgs } from "node:util";
import { connect, explain, getRun, statusOf } from "./client.js";
import { watchRun } from "./watch.js";

const USAGE = `usage: node main.js get|watch ID [--address HOST:PORT] [--deadline SECONDS]
  [--tls-ca FILE] [--token-file FILE] [--service-config FILE]`;

function parse() {
  const { values, positionals: [command, id, ...more] } = parseArgs({
    allowPositionals: true,
    options: {
      address: { type: "string", default: "127.0.0.1:50051" },
      deadline: { type: "string", default: "5" },
      help: { type: "boolean", short: "h" },
      "service-config": { type: "string", default: "service-config.json" },
      "tls-ca": { type: "string" },
      "token-file": { type: "string" },
    },
  });
  if (values.help) return undefined;
  for (const [name, value] of Object.entries(values)) {
    if (value === "") throw new Error(`--${name} is empty`);
  }
  if ((command !== "get" && command !== "watch") || !id || more.length) {
    throw new Error("write `get ID` or `watch ID`; --help shows the options");
  }
  const [deadline, ca, token] = [Number(values.deadline), values["tls-ca"], values["token-file"]];
  if (!(deadline > 0)) throw new Error("--deadline must be a number of seconds, more than 0");
  if (token && !ca) throw new Error("--token-file needs --tls-ca");
  const client = connect(values.address, values["service-config"], ca, token);
  return { command, id, deadline, client };
}

async function main({ command, id, deadline, client }: NonNullable<ReturnType<typeof parse>>) {
  try {
    if (command === "get") console.log("status:", statusOf(await getRun(client, { id }, deadline)));
    else for await (const run of watchRun(client, { id })) console.log("status:", statusOf(run));
    return 0;
  } catch (error) {
    const { code, message, info, retrySeconds, fields, requestId } = explain(error);
    console.error(`${code}: ${message}`);
    if (info) console.error(`reason: ${info.reason}`);
    if (retrySeconds !== undefined) console.error(`retry after: ${retrySeconds} s`);
    for (const each of fields) console.error(`field ${each.field}: ${each.description}`);
    if (requestId) console.error(`request id: ${requestId}`);
    return 1;
  } finally {
    client.close();
  }
}

let parsed;
try {
  parsed = parse();
} catch (error) {
  console.error((error as Error).message.replaceAll("\n", " "));
  process.exit(2);
}
if (parsed) process.exit(await main(parsed)); // also if a connection is still being made
else console.log(USAGE);
