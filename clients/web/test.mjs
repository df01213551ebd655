// Tests the page in headless Chromium, with the built proxy and a gateway in front of a sandbox:
// GATEWAY is its address. CHROMIUM is the browser's program; without it the tests are skipped.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { get } from "node:http";
import { createInterface } from "node:readline";
import { gzipSync } from "node:zlib";
import { after, before, describe, test } from "node:test";
import { chromium } from "playwright-core";

const GATEWAY = process.env.GATEWAY ?? "127.0.0.1:50051";
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const skip = !existsSync(CHROMIUM) &&
  `there is no ${CHROMIUM}: apt install chromium, or set CHROMIUM to the path of another Chromium`;
const OFFLINE = ["quic", "gpu", "component-update", "sync", "background-networking"];
let browser, stopProxy, url;

/** Starts the proxy; returns its process, and the line that it prints. `after` gets its end. */
async function startProxy(after, listen, ...options) {
  const child = spawn("proxy/proxy", [`-listen=${listen}`, `-gateway=${GATEWAY}`, "-pages=dist",
    "-contract=../../generated/healthomics/v1/descriptor_set.binpb", ...options]);
  after(() => child.kill());
  const [line] = await once(createInterface(child.stderr), "line");
  return { child, line };
}

/** Opens the page, submits an id, and waits for a text in one of its parts. */
async function submit(id, button, part, text, { query = "", ...options } = {}) {
  const page = await browser.newPage(options);
  const foreign = [];
  page.on("request", (each) => each.url().startsWith(url) || foreign.push(each.url()));
  await page.goto(url + query);
  await page.getByLabel("Run id").fill(id);
  await page.getByRole("button", { name: button }).click();
  await page.locator(part, { hasText: text }).waitFor({ timeout: 90_000 }).catch(async (error) => {
    throw new Error(`the page shows: ${await page.locator("main").innerText()}`, { cause: error });
  });
  assert.deepEqual(foreign.filter((each) => !each.startsWith("data:")), []);
  return page;
}

describe("the page", { skip, concurrency: 3 }, () => {
  before(async () => {
    const { line } = await startProxy((stop) => { stopProxy = stop; }, "127.0.0.1:0");
    url = line.match(/http:\S+/)?.[0];
    assert.ok(url, line);
    browser = await chromium.launch({
      executablePath: CHROMIUM,
      args: ["--no-sandbox", "--no-first-run", ...OFFLINE.map((each) => `--disable-${each}`)],
    });
  });

  after(async () => {
    await browser?.close();
    stopProxy?.();
  });

  for (const query of ["", "?grpcweb"]) {
    test(`a run is shown ${query}`, async () => {
      const page = await submit("1000003", "Show", "#facts", "RUNNING", { query });
      assert.ok(await page.locator("#facts time").count() > 0);
      await page.close();
    });

    test(`an error has its reason ${query}`, async () => {
      const page = await submit("9000404", "Show", "#problem", "RUN_NOT_FOUND", { query });
      assert.match(await page.getByRole("alert").innerText(), /NOT_FOUND[^]*Request id/);
      await page.close();
    });

    test(`a watch ends with the run ${query}`, async () => {
      const id = String(2_000_000 + Math.ceil(Math.random() * 999_999)); // new to the sandbox
      const page = await submit(id, "Watch", "#progress", "The run has ended.", { query });
      const states = await page.locator("#states li").allInnerTexts();
      assert.match(states.at(-1), /COMPLETED/);
      assert.ok(states.length > 2, states); // a slow watch may miss a state
      await page.close();
    });
  }

  test("fields of an invalid request are named", async () => {
    const page = await submit("no id", "Show", "#problem", "INVALID_REQUEST");
    assert.ok(await page.locator("#problem dt", { hasText: /^id$/ }).isVisible());
    await page.close();
  });

  test("a watch says that it tries again, and goes on", async (context) => {
    const { child, line } = await startProxy(context.after.bind(context), "127.0.0.1:0");
    const address = line.match(/http:..([^/]+)/)[1];
    const page = await browser.newPage();
    await page.goto(`http://${address}`);
    await page.getByLabel("Run id").fill("1000003");
    await page.getByRole("button", { name: "Watch" }).click();
    await page.locator("#progress", { hasText: "Watching the run" }).waitFor();
    child.kill();
    await page.locator("#progress", { hasText: "Trying again" }).waitFor();
    await startProxy(context.after.bind(context), address);
    await page.locator("#progress", { hasText: "Watching the run" }).waitFor();
    await page.close();
  });

  test("a watch can be stopped, also on a phone", async () => {
    const phone = { viewport: { width: 320, height: 640 }, colorScheme: "dark" };
    const page = await submit("1000003", "Watch", "#states", "RUNNING", phone);
    await page.getByRole("button", { name: "Stop" }).click();
    await page.locator("#progress", { hasText: "Stopped." }).waitFor();
    assert.ok(await page.getByRole("button", { name: "Stop" }).isHidden());
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 320);
    await page.close();
  });
});

describe("the proxy", () => {
  for (const [listen, options, served] of [
    ["127.0.0.1:0", [], ["127.0.0.1", "localhost"]],
    ["localhost:0", [], ["localhost"]],
    ["127.0.0.1:0", ["-host=runs.example,runs2.example"], ["runs.example", "RUNS2.example"]],
  ]) {
    test(`${listen} ${options} serves only its hosts`, async (context) => {
      const { line } = await startProxy(context.after.bind(context), listen, ...options);
      const port = line.match(/http:\/\/[^/]+:(\d+)/)?.[1];
      assert.ok(port, line);
      for (const host of [...served, "other.example"]) {
        const headers = { host: `${host}:${port}` };
        const [answer] = await once(get({ host: "127.0.0.1", port, headers }), "response");
        assert.equal(answer.resume().statusCode, host === "other.example" ? 421 : 200);
      }
    });
  }

  for (const [what, headers, body, code, text] of [
    ["a large request", {}, Buffer.alloc(1 << 20), 413, /./],
    ["a compressed request", { "content-encoding": "gzip" }, gzipSync("{}"), 415, /./],
    ["a compressed message", { "connect-content-encoding": "gzip" }, gzipSync("{}"), 415, /./],
    ["a message of 4 GB", {}, Buffer.from([0, 255, 255, 255, 255, 97]), 200, /resource_exhausted/],
  ]) {
    test(`${what} is refused`, async (context) => {
      const { line } = await startProxy(context.after.bind(context), "127.0.0.1:0");
      const method = `${line.match(/http:[^ ]+/)[0]}healthomics.v1.RunService/WatchRun`;
      headers["content-type"] = "application/connect+json";
      const response = await fetch(method, { method: "POST", headers, body });
      assert.equal(response.status, code);
      assert.match(await response.text(), text);
    });
  }

  for (const listen of [":0", "0.0.0.0:0", "[::]:0"]) {
    test(`${listen} is refused without a host`, async (context) => {
      const { line } = await startProxy(context.after.bind(context), listen);
      assert.match(line, /add -host/);
    });
  }
});
