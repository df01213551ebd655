/** Asks a HealthOmics gateway for a run, or watches it to its end. */
import { parseArgs } from "node:util";
import { connect, explain, getRun, statusOf, watchRun } from "./client.js";

const USAGE = `usage: main.js get|watch ID [--address HOST:PORT] [--deadline SECONDS]
  [--tls-ca FILE] [--token-file FILE]`;

function parse() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      address: { type: "string", default: "127.0.0.1:50051" },
      deadline: { type: "string", default: "5" },
      "tls-ca": { type: "string" },
      "token-file": { type: "string" },
    },
  });
  const [command, id, ...more] = positionals;
  if ((command !== "get" && command !== "watch") || !id || more.length) throw new Error(USAGE);
  const deadline = Number(values.deadline);
  if (!(deadline > 0)) throw new Error("--deadline must be a number of seconds");
  if (values["token-file"] && !values["tls-ca"]) throw new Error("--token-file needs --tls-ca");
  const client = connect(values.address, values["tls-ca"], values["token-file"]);
  return { command, id, deadline, client };
}

async function main(): Promise<number> {
  let parsed;
  try {
    parsed = parse();
  } catch (error) {
    console.error((error as Error).message);
    return 2;
  }
  const { command, id, deadline, client } = parsed;
  try {
    if (command === "get") console.log("status:", statusOf(await getRun(client, { id }, deadline)));
    else for await (const run of watchRun(client, { id })) console.log("status:", statusOf(run));
    return 0;
  } catch (error) {
    const { code, message, info, retrySeconds, fields, requestId } = explain(error);
    console.error(`${code}: ${message}`);
    if (info) console.error("reason:", info.reason);
    if (retrySeconds !== undefined) console.error("retry after:", retrySeconds, "s");
    for (const each of fields) console.error(`field ${each.field}: ${each.description}`);
    if (requestId) console.error("request id:", requestId);
    return 1;
  }
}

process.exitCode = await main();
