/** One network on one engine, and its queries; see phone.js. */

import { openSegmenter, picture, prove } from "./page/segmenter.js";
import { describe } from "./page/session.js";

let segmenter, frames;

const answers = {
  async open({ address, frames: addresses, engine }) {
    const page = await describe(address);
    frames = await Promise.all(addresses.map((name) => picture(new URL(name, self.location.href).href)));
    const start = performance.now();
    segmenter = await openSegmenter(page, new OffscreenCanvas(1, 1), { engine });
    const loaded = performance.now();
    await segmenter.classify(frames[0]);
    const first = performance.now();
    const { agreement, gate } = await prove(page, segmenter);
    const { engine: found, why, threads } = segmenter.session;
    return { engine: found, why, threads, painter: segmenter.painter.name, agreement, gate, load_ms: loaded - start,
      first_ms: first - loaded };
  },

  /** At least so many queries that take at least so many seconds: ms of each, and of its stages. */
  async round({ queries, seconds }) {
    const total = [], stages = { preprocess: [], inference: [], mask: [] }, start = performance.now();
    while (total.length < queries || performance.now() - start < 1000 * seconds) {
      const began = performance.now();
      const { input, engine, mask } = await segmenter.classify(frames[total.length % frames.length]);
      total.push(performance.now() - began);
      stages.preprocess.push(input);
      stages.inference.push(engine);
      stages.mask.push(mask);
    }
    return { total, stages };
  },

  async mask({ address }) {
    await segmenter.classify(await picture(new URL(address, self.location.href).href));
    const { height, width } = segmenter.painter;
    return { height, width, mask: segmenter.classes };
  },
};

self.onmessage = async ({ data: { kind, ...rest } }) => {
  try {
    self.postMessage(await answers[kind](rest));
  } catch (error) {
    self.postMessage({ error: error.message });
  }
};
