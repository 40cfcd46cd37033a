/** The segmenter in a thread of its own, so that the page never stutters. Its other end is client.js. */

import { openSegmenter, prove } from "./segmenter.js";
import { describe } from "./session.js";

let segmenter, page;

const answers = {
  /** Open the network, prove it on this device, and say what it runs on. */
  async open({ address, canvas, wanted }) {
    page = await describe(address);
    segmenter = await openSegmenter(page, canvas, wanted, (progress) => self.postMessage({ progress }));
    const proof = await prove(page, segmenter);
    const { engine, why } = segmenter.session;
    return { page, engine, why, painter: segmenter.painter.name, proof };
  },

  frame: ({ frame, look }) => segmenter.segment(frame, look),

  /** Draw the last frame again, with another opacity or other classes hidden. */
  look: ({ look }) => segmenter.painter.draw(look),

  /** The last mask and the frame that it belongs to, as the painter saw it. */
  mask() {
    const { height, width } = segmenter.painter;
    return { height, width, classes: segmenter.classes.slice(), rgba: segmenter.painter.pixels().slice() };
  },
};

async function answer({ id, kind, ...rest }) {
  try {
    self.postMessage({ id, value: await answers[kind](rest) });
  } catch (error) {
    self.postMessage({ id, error: { name: error.name, message: error.message } });
  }
}

/** One after another: while an engine computes, the painter has the new frame and the mask of the one before. */
let turn = Promise.resolve();
self.onmessage = ({ data }) => { turn = turn.then(() => answer(data)); };
