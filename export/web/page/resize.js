/**
 * A frame to the network's input: RGBA at its own size to BGR at the network's, as `cv2.resize` with INTER_LINEAR does
 * it, to the bit.
 */

const ONE = 2048;

/**
 * @param rgba Uint8Array or Uint8ClampedArray [sourceHeight × sourceWidth × 4].
 * @returns Uint8Array [height × width × 3], BGR.
 */
export function resizedToBgr(rgba, sourceHeight, sourceWidth, height, width) {
  return sourceHeight === height && sourceWidth === width ? toBgr(rgba)
    : interpolated(rgba, sourceWidth, taps(sourceHeight, height, { isRow: true }),
      taps(sourceWidth, width, { isRow: false }));
}

function toBgr(rgba) {
  const bgr = new Uint8Array(rgba.length / 4 * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    bgr[to] = rgba[from + 2];
    bgr[to + 1] = rgba[from + 1];
    bgr[to + 2] = rgba[from];
  }
  return bgr;
}

/**
 * For each of `target` pixels the two source pixels that it lies between, and the share of each in 1/2048.
 *
 * To the bit as cv2 has them: float32 positions, halves rounded to even, each share on its own. Beyond the outermost
 * pixels columns take that pixel alone; rows keep both shares of it, and so lose a bit more in truncation.
 */
export function taps(source, target, { isRow }) {
  const near = new Int32Array(target), far = new Int32Array(target);
  const nearShare = new Int32Array(target), farShare = new Int32Array(target);
  const last = source - 1, scale = 1 / (target / source);
  for (let i = 0; i < target; i++) {
    const position = Math.fround((i + 0.5) * scale - 0.5), cell = Math.floor(position);
    const between = isRow || (cell >= 0 && cell < last) ? Math.fround(position - cell) : 0;
    near[i] = Math.min(Math.max(cell, 0), last);
    far[i] = Math.min(Math.max(cell + 1, 0), last);
    nearShare[i] = rounded(Math.fround(1 - between) * ONE);
    farShare[i] = rounded(between * ONE);
  }
  return { near, far, nearShare, farShare };
}

/** To the nearest integer, halves to the even one. */
function rounded(value) {
  const up = Math.round(value);
  return up - value === 0.5 && up % 2 ? up - 1 : up;
}

function interpolated(rgba, sourceWidth, rows, columns) {
  const height = rows.near.length, width = columns.near.length;
  const bgr = new Uint8Array(height * width * 3);
  for (let y = 0, to = 0; y < height; y++) {
    const above = rows.near[y] * sourceWidth, below = rows.far[y] * sourceWidth;
    const up = rows.nearShare[y], down = rows.farShare[y];
    for (let x = 0; x < width; x++, to += 3) {
      const a = 4 * (above + columns.near[x]), b = 4 * (above + columns.far[x]);
      const c = 4 * (below + columns.near[x]), d = 4 * (below + columns.far[x]);
      const left = columns.nearShare[x], right = columns.farShare[x];
      for (let k = 0; k < 3; k++) {
        const upper = rgba[a + k] * left + rgba[b + k] * right, lower = rgba[c + k] * left + rgba[d + k] * right;
        bgr[to + 2 - k] = (((upper >> 4) * up >> 16) + ((lower >> 4) * down >> 16) + 2) >> 2;
      }
    }
  }
  return bgr;
}
