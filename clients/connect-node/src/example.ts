/** Gets a run, and watches another. */
import { connect, explain, getRun, statusOf } from "./client.js";
import { watchRun } from "./watch.js";

const client = connect("127.0.0.1:50051");
try {
  console.log(statusOf(await getRun(client, { id: "1000003" }, 5)));
  for await (const run of watchRun(client, { id: "1000005" })) console.log(statusOf(run));
} catch (error) {
  const { code, message, info } = explain(error);
  console.error(code, message, info?.reason); // NOT_FOUND, for example, and RUN_NOT_FOUND
  process.exitCode = 1;
}
