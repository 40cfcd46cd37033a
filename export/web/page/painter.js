/**
 * From frames to pictures: what the engine gets, the exact mask, and the overlay. Two painters with the same methods, on
 * WebGL2 and without it.
 *
 *     const painter = openPainter(canvas, artifact);
 *     painter.take(frame);                          // VideoFrame, ImageBitmap, canvas: anything that can be drawn
 *     const output = await session.run(painter.input());
 *     const classes = painter.mask(output);         // Uint8Array [height × width], the frame's own size
 *     painter.draw({ opacity: 0.6 });               // the frame with its mask over it, on the canvas
 *
 * `painter.pixels()` is the frame as RGBA, as the painter saw it; `painter.height` and `.width` are its size.
 */

import { PlainPainter } from "./plain.js";
import { PageError } from "./session.js";
import { WebGlPainter } from "./webgl.js";

/**
 * @param canvas HTMLCanvasElement or OffscreenCanvas that nothing was drawn on yet; it takes each frame's size.
 * @param artifact the network's JSON.
 * @param wanted "webgl2" or "plain"; without it WebGL2, unless it runs in software, where plain code is faster.
 * @throws PageError: WebGL2 was insisted on and is not there.
 */
export function openPainter(canvas, artifact, wanted) {
  if (wanted !== "plain" && (wanted === "webgl2" || !inSoftware())) {
    const options = { alpha: false, antialias: false, depth: false, preserveDrawingBuffer: true };
    const gl = canvas.getContext("webgl2", options);
    if (gl) return new WebGlPainter(gl, artifact);
    if (wanted) throw new PageError(`painter ${wanted} was asked for and is not here`, "?painter=plain");
  }
  return new PlainPainter(canvas.getContext("2d", { alpha: false }), artifact);
}

/** Whether WebGL2 is drawn by the processor; asked of a canvas of its own, as a canvas has one kind of context for good. */
function inSoftware() {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2", { failIfMajorPerformanceCaveat: true });
  if (!gl) return true;
  const names = gl.getExtension("WEBGL_debug_renderer_info");
  const renderer = names ? gl.getParameter(names.UNMASKED_RENDERER_WEBGL) : "";
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return /swiftshader|llvmpipe|software|basic render/i.test(renderer);
}
