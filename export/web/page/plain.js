/** The painter that needs no WebGL: a 2D canvas and loops. See painter.js. */

import { sizeOf } from "./frame.js";
import { classMap, layoutOf } from "./mask.js";
import { resizedToBgr } from "./resize.js";

export class PlainPainter {
  name = "plain";
  height = 0;
  width = 0;

  constructor(context, artifact) {
    this.context = context;
    this.artifact = artifact;
    this.reader = new OffscreenCanvas(1, 1).getContext("2d", { alpha: false, willReadFrequently: true });
    this.tints = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  }

  take(frame) {
    const [height, width] = sizeOf(frame);
    if (height !== this.height || width !== this.width) {
      Object.assign(this, { height, width });
      for (const { canvas } of [this.reader, this.tints, this.context]) Object.assign(canvas, { height, width });
    }
    this.reader.drawImage(frame, 0, 0, width, height);
    this.rgba = this.reader.getImageData(0, 0, width, height).data;
    this.classes = null;
  }

  input() {
    const [height, width] = this.artifact.preprocess.size;
    return resizedToBgr(this.rgba, this.height, this.width, height, width);
  }

  mask({ data, dims }) {
    const layout = layoutOf(dims, this.artifact.output.layout);
    this.classes = classMap(data, layout, this.height, this.width, this.artifact.align_corners);
    return this.classes;
  }

  draw({ opacity = 0.6, hidden = new Set() } = {}) {
    this.context.drawImage(this.reader.canvas, 0, 0);
    if (!this.classes) return;
    this.tints.putImageData(tinted(this.classes, this.artifact.palette, hidden, this.width, this.height), 0, 0);
    this.context.globalAlpha = opacity;
    this.context.drawImage(this.tints.canvas, 0, 0);
    this.context.globalAlpha = 1;
  }

  pixels() {
    return this.rgba;
  }

  close() {}
}

/** A picture of the classes in their colours, transparent where a class is hidden. */
function tinted(classes, palette, hidden, width, height) {
  const colours = new Uint8Array(4 * 256);
  palette.forEach((colour, k) => { if (!hidden.has(k)) colours.set([...colour, 255], 4 * k); });
  const table = new Uint32Array(colours.buffer); // one load and one store for all four bytes
  const picture = new ImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  for (let i = 0; i < classes.length; i++) pixels[i] = table[classes[i]];
  return picture;
}
