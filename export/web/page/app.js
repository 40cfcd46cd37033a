/** The page: what is chosen, what is shown. Frames are worked on in worker.js; this file never touches a pixel. */

import { Client } from "./client.js";
import { describe } from "./session.js";
import { Player, stillFrom } from "./source.js";

const SHOWN_EVERY_MS = 250; // figures that change faster cannot be read
const WINDOW_MS = 2000; // frames a second are counted over so long
const NAMES = { webgpu: "WebGPU", "wasm-threads": "WASM, threads", wasm: "WASM, one thread" };

const $ = (id) => document.getElementById(id);
const percent = (share, digits) => `${(100 * share).toFixed(digits)} %`;
const asked = Object.fromEntries(new URLSearchParams(location.search));

const look = { opacity: 0.55, hidden: new Set() };
const state = { page: null, busy: false, fresh: false, paused: false, moving: false, facing: "environment",
  frames: 0, times: [], shown: 0, last: null };
const client = new Client(({ loaded, total }) => { if (total) $("loading").value = loaded / total; });
const player = new Player($("video"), () => { state.fresh = true; pump(); });

/** For tests, and for people who build on the page. */
window.edgeseg = {
  ready: false,
  engine: null,
  painter: null,
  agreement: null,
  get frames() { return state.frames; },
  get fps() { return fps(); },
  get stages() { return state.last?.stages ?? null; },
  /** @returns the last {height, width, classes: Uint8Array, rgba: Uint8Array}: the mask, and the frame it is of. */
  mask: () => client.ask("mask"),
  /** Segment a picture: anything that createImageBitmap takes. */
  segment: async (image) => frame(await createImageBitmap(image, { colorSpaceConversion: "none" })),
};

start().catch(failed);

async function start() {
  if (!HTMLCanvasElement.prototype.transferControlToOffscreen) {
    throw new Error("this browser is too old: it needs OffscreenCanvas (Chrome 69, Firefox 105, Safari 16.4)");
  }
  const page = state.page = await describe("page.json");
  introduce(page);
  if (await installed(page)) return;
  const canvas = $("canvas").transferControlToOffscreen();
  const wanted = { engine: asked.engine, painter: asked.painter };
  const opened = await client.ask("open", { address: new URL("page.json", location.href).href, canvas, wanted }, [canvas]);
  $("loading").hidden = true;
  $("engine").textContent = NAMES[opened.engine];
  $("why").textContent = `${opened.why}. Mask and overlay: ${opened.painter === "plain" ? "plain code" : "WebGL2"}.`;
  proved(opened.proof);
  show(opened.proof.result);
  for (const id of ["camera", "choose-picture", "choose-video"]) $(id).disabled = false;
  Object.assign(window.edgeseg, { engine: opened.engine, painter: opened.painter, agreement: opened.proof.agreement,
    ready: true });
}

/** What is known before anything is loaded. */
function introduce({ artifact, runtime }) {
  const [height, width] = artifact.preprocess.size;
  $("network").textContent = `${artifact.name} · ${height}×${width} · ${artifact.precision.toUpperCase()}`;
  $("runtime").textContent = runtime.version;
  $("terms").textContent = artifact.weights.terms ? `Weights: ${artifact.weights.terms}.` : "";
  document.title = `edgeseg: ${artifact.name}`;
  artifact.classes.forEach((name, k) => $("legend").append(entry(name, artifact.palette[k], k)));
  for (const stage of ["input", "engine", "mask", "draw"]) {
    const colour = `var(--${stage})`;
    $("bar").append(Object.assign(document.createElement("i"), { id: `bar-${stage}` }));
    $(`bar-${stage}`).style.background = colour;
    const pair = document.createElement("div");
    pair.append(Object.assign(document.createElement("dt"), { textContent: stage }),
      Object.assign(document.createElement("dd"), { id: `ms-${stage}`, textContent: "–" }));
    pair.style.setProperty("--colour", colour);
    $("stages").append(pair);
  }
}

function entry(name, [r, g, b], k) {
  const item = document.createElement("li"), button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-pressed", "true");
  const swatch = document.createElement("i"), label = document.createElement("span");
  swatch.style.background = `rgb(${r}, ${g}, ${b})`;
  label.textContent = name;
  button.append(swatch, label, Object.assign(document.createElement("b"), { id: `share-${k}` }),
    Object.assign(document.createElement("s"), { id: `share-bar-${k}` }));
  button.onclick = () => {
    if (!look.hidden.delete(k)) look.hidden.add(k);
    button.setAttribute("aria-pressed", String(!look.hidden.has(k)));
    redraw();
  };
  item.append(button);
  return item;
}

/**
 * Register the service worker. Where the server sends no isolation headers the page is loaded once more, through the
 * service worker, which adds them. @returns whether that is under way.
 */
async function installed(page) {
  if (!navigator.serviceWorker || asked.offline === "no") return false;
  try {
    await navigator.serviceWorker.register(`sw.js?v=${page.version}`);
  } catch (error) {
    console.info(`not stored for offline use: ${error.message}`); // a certificate that the browser does not trust
    return false;
  }
  if (self.crossOriginIsolated || sessionStorage.getItem("edgeseg-reloaded")) return false;
  await navigator.serviceWorker.ready;
  sessionStorage.setItem("edgeseg-reloaded", "yes");
  location.reload();
  return true;
}

function proved({ agreement, gate, alone, passed }) {
  const card = $("check").closest(".card");
  for (const element of [card, $("proof")]) element.classList.add(passed ? "passed" : "failed");
  const exact = agreement === 1 ? "100 %" : percent(Math.min(agreement, 0.99999), 3);
  $("agreement").textContent = exact;
  $("proof").textContent = passed ? `✓ ${exact} ` : `✗ only ${exact} `;
  $("proof").append(Object.assign(document.createElement("small"), { textContent: "as expected" }));
  $("check").textContent = passed
    ? `of a bundled frame's pixels have the class they should have, on this very device and engine (gate ${percent(gate, 1)}; one class everywhere: ${percent(alone, 0)}).`
    : `of a bundled frame's pixels have the class they should have; expected at least ${percent(gate, 1)}. Do not believe this page's masks on this device: try ?engine=wasm at the end of its address.`;
}

/** Segment one frame and show what came of it. */
async function frame(image) {
  const result = await client.ask("frame", { frame: image, look }, [image]);
  state.frames += 1;
  state.times.push(performance.now());
  show(result);
  return result;
}

/** As long as there are new frames, one at a time: a slow engine misses frames, it never falls behind. */
async function pump() {
  if (state.busy || !state.fresh || !state.moving || state.paused || document.hidden) return;
  state.busy = true;
  state.fresh = false;
  try {
    await frame(await player.grab());
  } catch (error) {
    state.moving = false;
    failed(error);
  }
  state.busy = false;
  pump();
}

function fps() {
  const now = performance.now();
  state.times = state.times.filter((time) => now - time < WINDOW_MS);
  const span = state.times.at(-1) - state.times[0];
  return state.times.length > 1 ? 1000 * (state.times.length - 1) / span : 0;
}

function show(result) {
  state.last = result;
  const now = performance.now();
  if (state.moving && now - state.shown < SHOWN_EVERY_MS) return;
  state.shown = now;
  const { stages, counts, height, width } = result;
  const total = Object.values(stages).reduce((sum, ms) => sum + ms, 0);
  $("fps").textContent = state.moving ? fps().toFixed(1) : `${total.toFixed(0)} ms`;
  $("fps-unit").textContent = state.moving ? `frames a second at ${width}×${height}` : `for one frame of ${width}×${height}`;
  for (const [stage, ms] of Object.entries(stages)) {
    $(`bar-${stage}`).style.flexGrow = ms;
    $(`ms-${stage}`).textContent = `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
  }
  state.page.artifact.classes.forEach((_, k) => {
    const share = counts[k] / (height * width);
    $(`share-${k}`).textContent = percent(share, 1);
    $(`share-bar-${k}`).style.transform = `scaleX(${share})`;
  });
}

function failed(error) {
  console.error(error);
  $("loading").hidden = true;
  $("alert").textContent = `${error.message[0].toUpperCase()}${error.message.slice(1)}.`;
  $("alert").hidden = false;
  if (!window.edgeseg.ready) $("proof").textContent = "not running";
}

const redraw = () => { if (window.edgeseg.ready && !state.busy) client.ask("look", { look }).catch(failed); };

/** Switch to another source: `open` is what may fail. */
async function use(open, { moving, mirrored = false }) {
  $("alert").hidden = true;
  state.moving = false;
  pausing(false);
  try {
    await open();
  } catch (error) {
    return failed(error);
  }
  $("canvas").classList.toggle("mirrored", mirrored);
  Object.assign(state, { moving, times: [] });
  $("pause").disabled = !moving;
  return pump();
}

function pausing(paused) {
  state.paused = paused;
  state.times = [];
  $("pause").setAttribute("aria-pressed", String(paused));
  if (state.moving) player.pause(paused);
}

async function camera() {
  await use(() => player.camera(state.facing), { moving: true, mirrored: state.facing === "user" });
  const devices = await navigator.mediaDevices?.enumerateDevices() ?? [];
  $("flip").hidden = $("flip").disabled = devices.filter(({ kind }) => kind === "videoinput").length < 2;
}

$("camera").onclick = camera;
$("flip").onclick = () => {
  state.facing = state.facing === "user" ? "environment" : "user";
  camera();
};
$("choose-picture").onclick = () => $("picture").click();
$("choose-video").onclick = () => $("film").click();
$("picture").onchange = ({ target }) => use(async () => {
  player.stop();
  await frame(await stillFrom(target.files[0]));
  target.value = "";
}, { moving: false });
$("film").onchange = ({ target }) => use(async () => {
  await player.file(target.files[0]);
  target.value = "";
}, { moving: true });
$("pause").onclick = () => pausing(!state.paused);
$("full").hidden = !document.fullscreenEnabled;
$("full").onclick = () => (document.fullscreenElement ? document.exitFullscreen() : $("stage").requestFullscreen());
$("opacity").oninput = ({ target }) => {
  look.opacity = target.value / 100;
  $("opacity-value").textContent = `${target.value} %`;
  redraw();
};
document.addEventListener("visibilitychange", () => { state.times = []; });
document.addEventListener("keydown", (event) => {
  if (event.target.matches("button, input") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && !$("pause").disabled) { event.preventDefault(); $("pause").click(); }
  if (event.key === "f" && !$("full").hidden) $("full").click();
});
