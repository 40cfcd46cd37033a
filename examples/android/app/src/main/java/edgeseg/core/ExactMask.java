package edgeseg.core;

import java.util.Arrays;

/**
 * The exact mask: low-resolution logits in, a class map at frame size out, without full-size logits.
 *
 * <p>The same rules as runtime/mask.py, and the same bits. An interpolated logit is a convex combination of the four
 * around it. So where the four corners of a cell have the same best class, every pixel between them has it too; and a
 * class that a corner's winner beats at all four corners wins nowhere in between. Only what is left is interpolated.
 *
 * <p>Made once per size; `classes` then allocates nothing. Not for two threads at a time.
 */
public final class ExactMask {
    private final int columns, classes, width;
    private final Axis down, across;
    /** The best class of every cell of the logits. */
    private final int[] best;
    /** Of the cell being worked on: its corners, upper left, upper right, lower left, lower right; what may win in it. */
    private final int[] corners = new int[4], able;

    /**
     * @param rows, columns, classes size of the logits, 1 to 255 classes
     * @param height, width size of the frame in pixels, larger or smaller than the logits
     * @param alignCorners whether the centres (true) or the outer borders (false) of the outermost samples and of the
     *     outermost pixels coincide
     */
    public ExactMask(int rows, int columns, int classes, int height, int width, boolean alignCorners) {
        this.columns = columns;
        this.classes = classes;
        this.width = width;
        down = new Axis(rows, height, alignCorners);
        across = new Axis(columns, width, alignCorners);
        best = new int[rows * columns];
        able = new int[classes];
    }

    /**
     * @param logits float32 [rows, columns, classes], classes last, all finite
     * @param mask [height, width], filled with the class of every pixel, an unsigned byte
     * @throws IllegalArgumentException a logit is infinite or not a number
     */
    public void classes(float[] logits, byte[] mask) {
        for (int cell = 0; cell < best.length; cell++) best[cell] = winner(logits, cell * classes);
        for (int i = 0; i < down.cells; i++) {
            int above = down.near[i] * columns, below = down.far[i] * columns;
            for (int j = 0; j < across.cells; j++) {
                corners[0] = above + across.near[j];
                corners[1] = above + across.far[j];
                corners[2] = below + across.near[j];
                corners[3] = below + across.far[j];
                if (pure()) {
                    fill(mask, i, j, (byte) best[corners[0]]);
                } else {
                    interpolate(logits, mask, i, j, able(logits));
                }
            }
        }
    }

    private int winner(float[] logits, int start) {
        int winner = 0;
        for (int k = 0; k < classes; k++) {
            float logit = logits[start + k];
            if (!(Math.abs(logit) <= Float.MAX_VALUE)) {
                throw new IllegalArgumentException("the logits hold infinite values or NaN, so the network overflowed; "
                        + "expected finite numbers, as an artifact of --precision fp32 gives them");
            }
            if (logit > logits[start + winner]) winner = k;
        }
        return winner;
    }

    private boolean pure() {
        int first = best[corners[0]];
        return first == best[corners[1]] && first == best[corners[2]] && first == best[corners[3]];
    }

    private void fill(byte[] mask, int i, int j, byte value) {
        for (int y = down.first[i]; y < down.first[i + 1]; y++) {
            Arrays.fill(mask, y * width + across.first[j], y * width + across.first[j + 1], value);
        }
    }

    /** The classes, in rising order in `able`, that no corner's winner beats at all four corners. Returns how many. */
    private int able(float[] logits) {
        int count = 0;
        for (int k = 0; k < classes; k++) {
            if (winsAtACorner(k) || !beaten(logits, k)) able[count++] = k;
        }
        return count;
    }

    private boolean beaten(float[] logits, int k) {
        for (int corner : corners) if (nowhereAbove(logits, k, best[corner])) return true;
        return false;
    }

    private boolean nowhereAbove(float[] logits, int k, int winner) {
        for (int corner : corners) {
            if (logits[corner * classes + k] > logits[corner * classes + winner]) return false;
        }
        return true;
    }

    private boolean winsAtACorner(int k) {
        for (int corner : corners) if (best[corner] == k) return true;
        return false;
    }

    private void interpolate(float[] logits, byte[] mask, int i, int j, int count) {
        for (int y = down.first[i]; y < down.first[i + 1]; y++) {
            for (int x = across.first[j]; x < across.first[j + 1]; x++) {
                float top = 0;
                for (int n = 0; n < count; n++) {
                    int k = able[n];
                    float left = between(logits[corners[0] * classes + k], logits[corners[2] * classes + k],
                            down.weight[y]);
                    float right = between(logits[corners[1] * classes + k], logits[corners[3] * classes + k],
                            down.weight[y]);
                    float logit = between(left, right, across.weight[x]);
                    if (n == 0 || logit > top) {
                        top = logit;
                        mask[y * width + x] = (byte) k;
                    }
                }
            }
        }
    }

    private static float between(float near, float far, float weight) {
        return (far - near) * weight + near;
    }
}
