/**
 * The exact mask: low-resolution logits in, a class map at frame size out. The plain form of `runtime/mask.py`.
 *
 * An interpolated logit is a convex combination of the four around it. Where those four have the same best class, every
 * pixel between them has it too, and is filled; only in the other cells are logits interpolated. Positions are float32
 * as ATen has them, so that the mask equals torch's `interpolate` + `argmax` but for ties in the last bit.
 */

const fround = Math.fround;

/**
 * Where `target` pixels lie among `source` samples.
 *
 * @returns {near, far: Int32Array, weight: Float32Array}, one entry per pixel; `weight` is the share of `far`, 0..1.
 */
export function axis(source, target, alignCorners) {
  const near = new Int32Array(target), far = new Int32Array(target), weight = new Float32Array(target);
  const scale = fround(alignCorners ? (source - 1) / Math.max(target - 1, 1) : source / target);
  for (let pixel = 0; pixel < target; pixel++) {
    const position = fround(alignCorners ? pixel * scale : (pixel + 0.5) * scale - 0.5);
    const inside = Math.max(position, 0);
    near[pixel] = Math.min(Math.floor(inside), source - 1);
    weight[pixel] = Math.min(Math.max(inside - near[pixel], 0), 1);
    far[pixel] = Math.min(near[pixel] + (weight[pixel] > 0 ? 1 : 0), source - 1);
  }
  return { near, far, weight };
}

/** How an output tensor without its batch dimension is laid out: sizes, and the step from one class to the next. */
export function layoutOf(dims, layout) {
  const [classes, height, width] = layout === "NHWC" ? [dims[2], dims[0], dims[1]] : dims;
  return layout === "NHWC" ? { classes, height, width, cell: classes, step: 1 }
    : { classes, height, width, cell: 1, step: height * width };
}

/**
 * The class of every pixel of a frame.
 *
 * @param logits Float32Array as `layout` says; all finite.
 * @param layout what `layoutOf` returned.
 * @param height, width of the frame in pixels.
 * @returns Uint8Array [height × width].
 */
export function classMap(logits, layout, height, width, alignCorners) {
  const best = bestOf(logits, layout);
  const rows = axis(layout.height, height, alignCorners), columns = axis(layout.width, width, alignCorners);
  const across = runsOf(columns);
  const found = { classes: new Uint8Array(height * width), width };
  const mixed = mixer(logits, layout, rows.weight, columns.weight, found);
  for (const row of runsOf(rows)) {
    const above = row.near * layout.width, below = row.far * layout.width;
    for (const column of across) {
      const a = above + column.near, b = above + column.far, c = below + column.near, d = below + column.far;
      const winner = best[a];
      if (winner === best[b] && winner === best[c] && winner === best[d]) fill(found, row, column, winner);
      else mixed([a, b, c, d], best, row, column);
    }
  }
  return found.classes;
}

/** The best class of every sample; the first one where several are equal. */
function bestOf(logits, { classes, height, width, cell, step }) {
  const best = new Uint8Array(height * width);
  for (let sample = 0; sample < best.length; sample++) {
    let top = logits[sample * cell];
    for (let k = 1; k < classes; k++) {
      const logit = logits[sample * cell + k * step];
      if (logit > top) { top = logit; best[sample] = k; }
    }
  }
  return best;
}

/** An axis in runs of pixels that lie between the same two samples; two runs make a cell. */
function runsOf({ near, far }) {
  const runs = [];
  for (let i = 0; i < near.length; i++) {
    const last = runs.at(-1);
    if (last && last.near === near[i] && last.far === far[i]) last.end = i + 1;
    else runs.push({ near: near[i], far: far[i], first: i, end: i + 1 });
  }
  return runs;
}

function fill({ classes, width }, row, column, winner) {
  for (let y = row.first; y < row.end; y++) classes.fill(winner, y * width + column.first, y * width + column.end);
}

/** What interpolates a cell whose corners disagree; the arithmetic and its order are those of `runtime/mask.py`. */
function mixer(logits, { classes, cell, step }, down, across, found) {
  const able = new Int32Array(classes), left = new Float32Array(classes), slope = new Float32Array(classes);

  /** The classes that no corner's winner beats at all four corners: only they can win in between. */
  function contenders([a, b, c, d], best) {
    const winners = new Set([best[a], best[b], best[c], best[d]]);
    let count = 0;
    for (let k = 0; k < classes; k++) {
      let beaten = false;
      for (const w of winners) {
        beaten ||= w !== k && logits[a * cell + k * step] <= logits[a * cell + w * step]
          && logits[b * cell + k * step] <= logits[b * cell + w * step]
          && logits[c * cell + k * step] <= logits[c * cell + w * step]
          && logits[d * cell + k * step] <= logits[d * cell + w * step];
      }
      if (!beaten || winners.has(k)) able[count++] = k;
    }
    return count;
  }

  return (corners, best, row, column) => {
    const count = contenders(corners, best);
    const [a, b, c, d] = corners.map((corner) => corner * cell);
    for (let y = row.first; y < row.end; y++) {
      for (let i = 0; i < count; i++) {
        const k = able[i] * step, p = logits[a + k], q = logits[b + k];
        left[i] = fround(fround(logits[c + k] - p) * down[y]) + p;
        slope[i] = fround(fround(fround(logits[d + k] - q) * down[y]) + q) - left[i];
      }
      for (let x = column.first, at = y * found.width + x; x < column.end; x++, at++) {
        let top = -Infinity;
        for (let i = 0; i < count; i++) {
          const logit = fround(fround(slope[i] * across[x]) + left[i]);
          if (logit > top) { top = logit; found.classes[at] = able[i]; }
        }
      }
    }
  };
}

/** How many pixels each class has: Uint32Array [256]. */
export function countClasses(mask) {
  const counts = new Uint32Array(256);
  for (let i = 0; i < mask.length; i++) counts[mask[i]]++;
  return counts;
}
