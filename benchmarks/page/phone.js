/**
 * Measures on the device that opens it, by the rules of benchmarks/latency.py: each network and engine in a worker of its
 * own, all of them in turn; a query is one frame, alone, from pixels to the mask. What comes of it goes back to the
 * server that this page is from, with the token in the page's address, and nowhere else.
 */

const $ = (id) => document.getElementById(id);
const token = location.hash.slice(1);
const WINDOW = { queries: 8, seconds: 0.25 }; // as benchmarks/worker.py warms up
const SETTLED = 0.05, MAX_WINDOWS = 20;
const ENGINES = { webgpu: "web-webgpu", "wasm-threads": "web-wasm", wasm: "web-wasm" };

window.phone = { done: false, error: "" };
let complaints = new Set();

/** phone-worker.js, and questions to it. */
class Contender {
  constructor(network, engine) {
    Object.assign(this, { network, engine, rounds: [], stages: { preprocess: [], inference: [], mask: [] } });
    this.worker = new Worker("phone-worker.js", { type: "module" });
  }

  ask(question) {
    return new Promise((resolve, reject) => {
      this.worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data));
      this.worker.onerror = (event) => reject(new Error(event.message ?? "phone-worker.js cannot be loaded"));
      this.worker.postMessage(question);
    });
  }

  async round(queries, seconds) {
    const { total, stages } = await this.ask({ kind: "round", queries, seconds });
    this.rounds.push(total);
    for (const [name, times] of Object.entries(stages)) this.stages[name].push(times);
  }

  async warm() {
    let queries = 0, last = 0;
    for (let i = 0; i < MAX_WINDOWS; i++) {
      const { total } = await this.ask({ kind: "round", ...WINDOW });
      queries += total.length;
      if (Math.abs(median(total) - last) < SETTLED * median(total)) return { queries, settled: true };
      last = median(total);
    }
    return { queries, settled: false };
  }
}

start().catch(failed);

async function start() {
  const plan = await (await fetch("plan.json")).json();
  const { queries, seconds, rounds } = plan.rule;
  $("rule").textContent = `${plan.networks.length} network${plan.networks.length > 1 ? "s" : ""}, each on every engine `
    + `here: at least ${queries} queries and ${seconds} s, in ${rounds} rounds`
    + (plan.minutes ? `, then ${plan.minutes} minutes without a pause` : "") + ".";
  $("start").disabled = false;
  $("start").onclick = () => {
    $("start").disabled = true;
    measure(plan).catch(failed);
  };
}

async function measure(plan) {
  const lock = await navigator.wakeLock?.request("screen").catch(() => null);
  document.addEventListener("visibilitychange", () => complaints.add("the page was hidden while it measured"));
  const device = await told();
  const contenders = await opened(plan);
  for (const [i, contender] of contenders.entries()) {
    say(`Warming up ${name(plan, contender)}`, 0.1 * i / contenders.length);
    contender.warmed = await contender.warm();
  }
  const { queries, seconds, rounds } = plan.rule;
  for (let round = 0; round < rounds; round++) {
    for (const contender of shuffled(contenders)) {
      say(`Round ${round + 1} of ${rounds}: ${name(plan, contender)}`, 0.1 + 0.7 * round / rounds);
      await contender.round(Math.ceil(queries / rounds), seconds / rounds);
    }
  }
  for (const contender of contenders) {
    if (plan.minutes) contender.thermal = await heated(plan, contender);
    for (const [i, frame] of plan.labelled.entries()) {
      say(`Masks of ${name(plan, contender)}: ${i + 1} of ${plan.labelled.length}`, 0.9);
      const { height, width, mask } = await contender.ask({ kind: "mask", address: frame });
      await send(`mask?${new URLSearchParams({ token, network: contender.network, engine: ENGINES[contender.engine],
        frame: i, height, width })}`, mask);
    }
    await send("result", JSON.stringify(result(contender, device)));
    show(plan, contender);
  }
  await send("done", JSON.stringify({ token }));
  await lock?.release();
  say("Done. The rows are with the computer that served this page.", 1);
  window.phone.done = true;
}

/** One worker for each network and engine that this device has; WASM always, WebGPU where it is no software. */
async function opened(plan) {
  const found = [];
  for (const [network, address] of plan.networks.entries()) {
    const best = new Contender(network, null);
    say(`Loading ${address}`, 0);
    best.opened = await best.ask({ kind: "open", address: new URL(address, location.href).href, frames: plan.frames });
    best.engine = best.opened.engine;
    found.push(best);
    if (best.engine !== "webgpu") continue;
    const other = new Contender(network, null);
    const engine = crossOriginIsolated ? "wasm-threads" : "wasm";
    other.opened = await other.ask({ kind: "open", address: new URL(address, location.href).href, frames: plan.frames,
      engine });
    other.engine = other.opened.engine;
    found.push(other);
  }
  return found;
}

/** Without a pause for the plan's minutes: [[seconds since the start, median ms of five seconds], …]. */
async function heated(plan, contender) {
  const curve = [], start = performance.now(), end = start + 60e3 * plan.minutes;
  while (performance.now() < end) {
    say(`${name(plan, contender)} without a pause: ${((end - performance.now()) / 60e3).toFixed(1)} minutes to go`, 0.8);
    const { total } = await contender.ask({ kind: "round", queries: 1, seconds: Math.min(5, 30 * plan.minutes) });
    curve.push([(performance.now() - start) / 1000, median(total)]);
  }
  return curve;
}

function result({ network, engine, opened: { why, threads, painter, agreement, gate, load_ms, first_ms }, warmed, rounds,
  stages, thermal = [] }, device) {
  return { token, network, engine: ENGINES[engine], why, threads, painter, agreement, gate, load_ms, first_ms, warmed, rounds,
    stages, thermal, device, complaints: [...complaints] };
}

/** What the browser tells of the device; most of it little, and none of it checked. */
async function told() {
  const hints = await navigator.userAgentData?.getHighEntropyValues(["model", "platformVersion", "fullVersionList"])
    .catch(() => null);
  const brand = hints?.fullVersionList?.filter(({ brand: b }) => !/not.?a.?brand/i.test(b)).at(-1);
  const battery = await navigator.getBattery?.().catch(() => null);
  return {
    browser: brand ? `${brand.brand} ${brand.version}` : navigator.userAgent.slice(-120),
    system: hints?.platform ? `${hints.platform} ${hints.platformVersion}`.trim() : navigator.platform,
    cpu: hints?.model || "not told by the browser",
    cores: navigator.hardwareConcurrency ?? 0,
    memory_gb: navigator.deviceMemory ?? 0,
    power: battery ? (battery.charging ? "charging" : "battery") : "not told by the browser",
  };
}

async function send(path, body) {
  const answer = await fetch(path, { method: "POST", body });
  if (!answer.ok) throw new Error(`the server refused it: ${await answer.text()}`);
}

function show(plan, contender) {
  const row = $("found").insertRow();
  const times = contender.rounds.flat();
  for (const text of [name(plan, contender), `${median(times).toFixed(1)} ms`, `${times.length} queries`]) {
    row.insertCell().textContent = text;
  }
}

function say(text, share) {
  $("status").textContent = text;
  $("bar-total").value = share;
}

function failed(error) {
  console.error(error);
  window.phone.error = error.message;
  $("status").textContent = `It did not work: ${error.message}`;
}

function name(plan, { network, engine }) {
  return `${plan.names[network]}, ${engine}`;
}

function median(values) {
  const sorted = Float64Array.from(values).sort(), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function shuffled(items) {
  return items.map((item) => [Math.random(), item]).sort(([a], [b]) => a - b).map(([, item]) => item);
}
