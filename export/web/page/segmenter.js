/** A frame in, a mask at the frame's own size out, with the time of each stage; the counterpart of runtime/segmenter.py. */

import { countClasses } from "./mask.js";
import { openPainter } from "./painter.js";
import { openSession, PageError } from "./session.js";

/**
 * @param page what `describe` returned.
 * @param canvas as for `openPainter`.
 * @param wanted {engine, painter} to insist on; see `openSession` and `openPainter`.
 * @param tell as for `openSession`.
 */
export async function openSegmenter(page, canvas, wanted = {}, tell = () => {}) {
  const session = await openSession(page, wanted, tell);
  const painter = openPainter(canvas, page.artifact, wanted.painter);
  const segmenter = {
    session, painter, classes: null,

    /** Segment one frame and leave it open. @returns ms of the stages before drawing. */
    async classify(frame) {
      const start = performance.now();
      painter.take(frame);
      const bgr = painter.input();
      const taken = performance.now();
      const output = await session.run(bgr);
      const run = performance.now();
      segmenter.classes = painter.mask(finite(output));
      return { input: taken - start, engine: run - taken, mask: performance.now() - run };
    },

    /** Segment and draw one frame, which is closed. @returns {height, width, stages: ms by stage, counts: by class}. */
    async segment(frame, look = {}) {
      const stages = await segmenter.classify(frame);
      frame.close?.();
      const start = performance.now();
      const counts = countClasses(segmenter.classes);
      painter.draw(look);
      stages.draw = performance.now() - start;
      return { height: painter.height, width: painter.width, stages, counts };
    },

    close() {
      session.close();
      painter.close();
    },
  };
  return segmenter;
}

function finite(output) {
  let sum = 0;
  for (const value of output.data) sum += value - value; // NaN as soon as one is infinite or NaN
  if (sum !== 0) {
    throw new PageError("the logits hold infinite values or NaN, so the network overflowed",
      "?engine=wasm, or an artifact of higher precision");
  }
  return output;
}

/**
 * Run the bundled frame and compare with the mask that the runtime made of it before the folder was written.
 *
 * @returns {agreement: share of pixels with the same class, 0..1, gate, alone, passed}; `alone` is what a mask of one
 *   class would reach, so that the figure can be judged.
 */
export async function prove(page, segmenter) {
  const { frame, expected, gate, alone } = page.proof;
  const result = await segmenter.segment(await picture(page.base + frame));
  const wanted = reds(await picture(page.base + expected));
  if (wanted.length !== segmenter.classes.length) throw new PageError(`${expected} has another size than ${frame}`);
  let same = 0;
  for (let i = 0; i < wanted.length; i++) same += wanted[i] === segmenter.classes[i];
  const agreement = same / wanted.length;
  return { agreement, gate, alone, passed: agreement >= gate, result };
}

/** A picture's pixels as the file has them: no colour management. */
export async function picture(address) {
  const answer = await fetch(address).catch(() => null);
  if (!answer?.ok) throw new PageError(`${address} cannot be fetched`, "copy the whole folder to the server again");
  return createImageBitmap(await answer.blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

/** The red channel of a picture: a grey PNG as it was written. */
export function reds(bitmap) {
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  return Uint8Array.from({ length: data.length / 4 }, (_, i) => data[4 * i]);
}
