package edgeseg.core;

import java.nio.ByteBuffer;

/**
 * A camera frame on its way to the engine: RGBA of any size in, BGR of the network's size out.
 *
 * <p>Bilinear, sampled at pixel centres without smoothing, as runtime/preprocess.py resizes; OpenCV rounds its weights
 * to 1/2048, so that a value may differ by one. Colour order is all that changes besides: mean and std are in the graph.
 */
public final class Preprocess {
    private final Axis down, across;
    private final byte[] above, below, line;

    /** @param height, width size of the frame; outHeight, outWidth that of the network's input */
    public Preprocess(int height, int width, int outHeight, int outWidth) {
        down = new Axis(height, outHeight, false);
        across = new Axis(width, outWidth, false);
        above = new byte[4 * width];
        below = new byte[4 * width];
        line = new byte[3 * outWidth];
    }

    /**
     * @param rgba uint8 [height, width, 4], rows `rowStride` bytes apart, from position 0; its position is moved
     * @param bgr uint8 [outHeight, outWidth, 3], filled from its first byte to its last and rewound
     */
    public void fill(ByteBuffer rgba, int rowStride, ByteBuffer bgr) {
        bgr.rewind();
        for (int y = 0; y < down.cell.length; y++) {
            read(rgba, down.near[down.cell[y]] * rowStride, above);
            read(rgba, down.far[down.cell[y]] * rowStride, below);
            for (int x = 0; x < across.cell.length; x++) pixel(x, down.weight[y]);
            bgr.put(line);
        }
        bgr.rewind();
    }

    private static void read(ByteBuffer rgba, int start, byte[] row) {
        rgba.position(start);
        rgba.get(row);
    }

    private void pixel(int x, float weight) {
        int left = 4 * across.near[across.cell[x]], right = 4 * across.far[across.cell[x]];
        for (int channel = 0; channel < 3; channel++) {
            float top = between(above[left + channel] & 255, above[right + channel] & 255, across.weight[x]);
            float bottom = between(below[left + channel] & 255, below[right + channel] & 255, across.weight[x]);
            line[3 * x + 2 - channel] = (byte) (int) (between(top, bottom, weight) + 0.5f);
        }
    }

    private static float between(float near, float far, float weight) {
        return (far - near) * weight + near;
    }
}
