/**
 * The network in the browser: ONNX Runtime Web on WebGPU, on WASM with threads, or on WASM with one.
 *
 *     const session = await openSession(await describe("page.json"));
 *     const logits = await session.run(bgr);      // Uint8Array [H × W × 3] in, Float32Array out
 *
 * Nothing is loaded from elsewhere, and nothing is chosen without saying so: `session.why` is a sentence.
 */

/** What went wrong, what was expected, and what to do about it: a message for a person. */
export class PageError extends Error {
  constructor(what, tryThis = "") {
    super(tryThis ? `${what}. Try: ${tryThis}` : what);
    this.name = "PageError";
  }
}

/** The page's description and the artifact's own JSON, as one object; `base` is the folder that both lie in. */
export async function describe(address) {
  const page = await json(address);
  const base = new URL(".", new URL(address, self.location.href)).href;
  return { ...page, base, artifact: await json(base + page.artifact) };
}

async function json(address) {
  const answer = await fetch(address).catch(() => null);
  if (!answer?.ok) throw new PageError(`${address} cannot be fetched`, "serve the whole folder, not one file of it");
  return answer.json();
}

/**
 * Open the network.
 *
 * @param page what `describe` returned.
 * @param wanted {engine: "webgpu" | "wasm-threads" | "wasm"} to insist on one; without it the best that is there.
 * @param tell called with {loaded, total} in bytes while the network arrives.
 * @returns {engine, why, threads, run(bgr), close()}. `run` takes Uint8Array [height × width × 3] in BGR order at the network's
 *   input size, and returns its output without the batch dimension, as `artifact.output` lays it out.
 * @throws PageError: the file is damaged, or the engine that was insisted on is not there.
 */
export async function openSession(page, { engine: wanted } = {}, tell = () => {}) {
  const { engine, why, threads } = await choose(page, wanted);
  const provider = engine === "webgpu" ? "webgpu" : "wasm";
  const folder = `${page.base}${page.runtime.folder}/`;
  const ort = await import(`${folder}${page.runtime[provider].module}`);
  ort.env.wasm.wasmPaths = folder;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  const model = await verified(page, tell);
  let opened;
  try {
    opened = await ort.InferenceSession.create(model, { executionProviders: [provider] });
  } catch (error) {
    throw new PageError(`${engine} cannot load ${page.artifact.file} (${error.message})`,
      engine === "webgpu" ? "?engine=wasm at the end of the address" : "another browser, or export the page again");
  }
  const { input, output } = page.artifact;
  const [height, width] = page.artifact.preprocess.size;
  return {
    engine, why, threads,
    async run(bgr) {
      const results = await opened.run({ [input.name]: new ort.Tensor("uint8", bgr, [1, height, width, 3]) });
      const tensor = results[output.name];
      const data = await tensor.getData();
      return { data, dims: tensor.dims.slice(1) };
    },
    close: () => opened.release(),
  };
}

/** Which engine, with how many threads, and why. */
async function choose(page, wanted) {
  const gpu = await webgpu(page);
  const threads = threading();
  const found = {
    webgpu: { engine: "webgpu", threads: 1, why: gpu.name },
    "wasm-threads": { engine: "wasm-threads", threads: threads.count, why: `${threads.count} threads; ${gpu.why}` },
    wasm: { engine: "wasm", threads: 1, why: `one thread${threads.why && `: ${threads.why}`}; ${gpu.why}` },
  };
  if (!wanted) return gpu.usable ? found.webgpu : threads.count > 1 ? found["wasm-threads"] : found.wasm;
  if (!found[wanted]) throw new PageError(`engine ${wanted} was asked for`, Object.keys(found).join(", "));
  if (wanted === "webgpu" && !gpu.there) throw new PageError(`WebGPU was asked for; ${gpu.why}`, "?engine=wasm");
  if (wanted === "wasm-threads" && threads.count < 2) {
    throw new PageError(`WASM with threads was asked for; ${threads.why}`, "?engine=wasm");
  }
  return { ...found[wanted], why: `asked for in the address; ${found[wanted].why}` };
}

/** What WebGPU is here. A software adapter is there but not worth using: WASM is many times faster. */
async function webgpu(page) {
  const no = (why) => ({ there: false, usable: false, name: "", why });
  if (!page.runtime.webgpu) return no("this folder was made without WebGPU");
  if (!navigator.gpu) return no("this browser has no WebGPU");
  const adapter = await navigator.gpu.requestAdapter();
  if (!adapter) return no("WebGPU finds no graphics processor");
  const info = adapter.info ?? {};
  const name = [info.vendor, info.architecture, info.description].filter(Boolean).join(" ") || "graphics processor";
  const software = info.isFallbackAdapter || /swiftshader|llvmpipe|software/i.test(name);
  if (software) return { there: true, usable: false, name, why: "WebGPU runs in software here" };
  if (page.artifact.precision === "int8") {
    return { there: true, usable: false, name, why: "INT8 is for WASM: WebGPU has no integer convolutions" };
  }
  return { there: true, usable: true, name, why: "" };
}

function threading() {
  if (!self.crossOriginIsolated) {
    return { count: 1, why: "the page is not cross-origin isolated (its server sends no COOP and COEP headers)" };
  }
  const cores = navigator.hardwareConcurrency ?? 1;
  // More than four are slower on phones, whose other cores are the small ones.
  return { count: Math.min(cores, 4), why: cores > 1 ? "" : "this device shows one core" };
}

/** The network's bytes, once their SHA-256 is what the artifact's JSON says. */
async function verified(page, tell) {
  const { file, sha256 } = page.artifact;
  const answer = await fetch(`${page.base}${file}?sha256=${sha256.slice(0, 12)}`).catch(() => null);
  if (!answer?.ok) throw new PageError(`${file} cannot be fetched`, "copy the whole folder to the server again");
  const bytes = await arriving(answer, tell);
  if (!self.isSecureContext) throw new PageError("this page is not secure, so no file can be checked", "https, or localhost");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== sha256) {
    throw new PageError(`${file} has SHA-256 ${found.slice(0, 12)}…, its JSON says ${sha256.slice(0, 12)}…: the file was `
      + "changed or cut short", "copy the folder to the server again");
  }
  return bytes;
}

async function arriving(answer, tell) {
  const total = Number(answer.headers.get("Content-Length")) || 0;
  const parts = [];
  let loaded = 0;
  for (const reader = answer.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    tell({ loaded: loaded += value.length, total });
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
