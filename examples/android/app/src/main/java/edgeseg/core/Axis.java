package edgeseg.core;

/**
 * One axis of the frame, cut into cells: runs of pixels that lie between the same two samples of the logits.
 *
 * <p>Bit for bit the positions of runtime/mask.py, which are those of ATen (aten/src/ATen/native/UpSample.h): computed
 * in double, rounded to float once.
 */
final class Axis {
    /** Per cell: the two samples; the same one where all pixels lie on it or beyond the last. */
    final int[] near, far;
    /** Per cell, and one more: its first pixel. Cell k has the pixels first[k] until first[k + 1]. */
    final int[] first;
    /** Per pixel: its cell, and the share of `far`, 0 to 1. */
    final int[] cell;
    final float[] weight;
    final int cells;

    Axis(int source, int target, boolean alignCorners) {
        near = new int[source + 1];
        far = new int[source + 1];
        first = new int[source + 2];
        cell = new int[target];
        weight = new float[target];
        int count = 0;
        int last = -2;
        for (int pixel = 0; pixel < target; pixel++) {
            float position = position(pixel, source, target, alignCorners);
            float inside = Math.max(position, 0f);
            int sample = Math.min((int) inside, source - 1);
            weight[pixel] = Math.min(Math.max(inside - sample, 0f), 1f);
            int run = position < 0 ? -1 : sample;  // the pixels before the first sample repeat it: a cell of their own
            if (run != last) {
                near[count] = far[count] = sample;
                first[count++] = pixel;
                last = run;
            }
            cell[pixel] = count - 1;
            if (weight[pixel] > 0) far[count - 1] = Math.min(sample + 1, source - 1);
        }
        first[count] = target;
        cells = count;
    }

    private static float position(int pixel, int source, int target, boolean alignCorners) {
        if (alignCorners) {
            return (float) (pixel * (double) (float) ((source - 1) / (double) Math.max(target - 1, 1)));
        }
        return (float) ((pixel + 0.5) * (float) (source / (double) target) - 0.5);
    }
}
