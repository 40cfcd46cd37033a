package edgeseg.app;

import android.content.res.AssetManager;
import android.graphics.Bitmap;
import android.os.SystemClock;
import androidx.camera.core.ImageProxy;
import edgeseg.core.Artifact;
import edgeseg.core.ExactMask;
import edgeseg.core.Palette;
import edgeseg.core.Preprocess;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import org.tensorflow.lite.Interpreter;

/** Runs the one artifact among the assets on camera frames, one at a time. */
final class Segmenter implements AutoCloseable {
    private static final float OPACITY = 0.5f;

    /** What a frame became: the frame itself, its class map in colours over it, and what the three stages took. */
    static final class Result {
        final Bitmap frame, overlay;
        final double preprocessMs, inferenceMs, maskMs;

        Result(Bitmap frame, Bitmap overlay, long... nanoseconds) {
            this.frame = frame;
            this.overlay = overlay;
            preprocessMs = (nanoseconds[1] - nanoseconds[0]) / 1e6;
            inferenceMs = (nanoseconds[2] - nanoseconds[1]) / 1e6;
            maskMs = (nanoseconds[3] - nanoseconds[2]) / 1e6;
        }
    }

    final Artifact artifact;
    private final Interpreter interpreter;
    private final Palette palette;
    private final ByteBuffer input, output;
    private final float[] logits;
    private int height, width;  // of the frames that what follows was made for
    private Preprocess preprocess;
    private ExactMask exactMask;
    private byte[] mask;
    private int[] pixels;

    /** @throws IllegalArgumentException no artifact, more than one, or one that this app cannot run */
    Segmenter(AssetManager assets, int threads) throws IOException {
        artifact = Artifact.read(new String(bytes(assets, onlyJson(assets)), StandardCharsets.UTF_8));
        byte[] engine = bytes(assets, artifact.file);
        artifact.check(new ByteArrayInputStream(engine));
        ByteBuffer model = direct(engine.length);
        model.put(engine).rewind();
        interpreter = new Interpreter(model, new Interpreter.Options().setNumThreads(threads));
        palette = new Palette(artifact.palette, OPACITY);
        input = direct(artifact.height * artifact.width * 3);
        logits = new float[artifact.rows * artifact.columns * artifact.classes.size()];
        output = direct(4 * logits.length);
    }

    /** @param image RGBA_8888, upright */
    Result segment(ImageProxy image) {
        prepareFor(image.getHeight(), image.getWidth());
        long start = SystemClock.elapsedRealtimeNanos();
        ImageProxy.PlaneProxy plane = image.getPlanes()[0];
        preprocess.fill(plane.getBuffer(), plane.getRowStride(), input);
        long prepared = SystemClock.elapsedRealtimeNanos();
        output.rewind();
        interpreter.run(input, output);
        long inferred = SystemClock.elapsedRealtimeNanos();
        output.rewind();
        output.asFloatBuffer().get(logits);
        exactMask.classes(logits, mask);
        long done = SystemClock.elapsedRealtimeNanos();
        palette.paint(mask, pixels);
        Bitmap overlay = Bitmap.createBitmap(pixels, width, height, Bitmap.Config.ARGB_8888);
        return new Result(image.toBitmap(), overlay, start, prepared, inferred, done);
    }

    private void prepareFor(int height, int width) {
        if (height == this.height && width == this.width) return;
        preprocess = new Preprocess(height, width, artifact.height, artifact.width);
        exactMask = new ExactMask(artifact.rows, artifact.columns, artifact.classes.size(), height, width,
                artifact.alignCorners);
        mask = new byte[height * width];
        pixels = new int[height * width];
        this.height = height;
        this.width = width;
    }

    @Override
    public void close() {
        interpreter.close();
    }

    private static String onlyJson(AssetManager assets) throws IOException {
        String only = null;
        for (String name : assets.list("")) {
            if (!name.endsWith(".tflite.json")) continue;
            if (only != null) throw new IllegalArgumentException(only + " and " + name + " are both there; expected one");
            only = name;
        }
        if (only == null) {
            throw new IllegalArgumentException("no artifact is among the assets; expected a .tflite file and its .json, "
                    + "as python -m export.litert NAME writes them");
        }
        return only;
    }

    private static byte[] bytes(AssetManager assets, String name) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        byte[] block = new byte[1 << 16];
        try (InputStream stream = assets.open(name)) {
            for (int read; (read = stream.read(block)) >= 0; ) bytes.write(block, 0, read);
        }
        return bytes.toByteArray();
    }

    private static ByteBuffer direct(int size) {
        return ByteBuffer.allocateDirect(size).order(ByteOrder.nativeOrder());
    }
}
