package edgeseg.core;

import java.io.IOException;
import java.io.InputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** What the JSON beside a .tflite file says of it, as far as a phone needs it; see runtime/artifact.py. */
public final class Artifact {
    private static final int FORMAT = 2;

    public final String name;
    public final String precision;
    /** The engine's file name, always beside the JSON, never a path. */
    public final String file;
    public final String sha256;
    /** Input, in pixels: uint8 [1, height, width, 3], BGR. */
    public final int height, width;
    /** Output, in cells: float32 [1, rows, columns, classes]. */
    public final int rows, columns;
    public final boolean alignCorners;
    public final List<String> classes;
    /** One 0xRRGGBB per class. */
    public final int[] palette;

    private Artifact(Fields json) {
        int format = json.whole("format");
        if (format != FORMAT) throw refused("format", format, FORMAT + "; export the artifact again");
        name = json.text("name");
        precision = json.text("precision");
        file = json.text("file");
        if (!file.matches("[^/\\\\]+\\.tflite")) throw refused("file", file, "the plain name of a .tflite file");
        sha256 = json.text("sha256");
        if (!json.text("output_kind").equals("low")) {
            throw refused("output_kind", json.text("output_kind"), "low, as python -m export.litert NAME writes it");
        }
        String interpolation = json.in("preprocess").text("interpolation");
        if (!interpolation.equals("linear")) throw refused("interpolation", interpolation, "linear");
        int[] input = shape(json.in("input"), "uint8");
        if (input[3] != 3) throw refused("input channels", input[3], "3, BGR");
        int[] output = shape(json.in("output"), "float32");
        height = input[1];
        width = input[2];
        rows = output[1];
        columns = output[2];
        alignCorners = json.flag("align_corners");
        classes = new ArrayList<>();
        for (Object item : json.list("classes")) classes.add((String) item);
        palette = colours(json.list("palette"));
        if (output[3] != classes.size() || palette.length != classes.size() || classes.size() > 255) {
            throw refused("classes", classes.size(), "as many as the output has channels (" + output[3]
                    + ") and the palette colours (" + palette.length + "), and at most 255");
        }
    }

    /** @throws IllegalArgumentException not an edgeseg artifact for this app: what was found and what was expected */
    public static Artifact read(String json) {
        try {
            return new Artifact(new Fields(Json.parse(json)));
        } catch (ClassCastException error) {
            throw new IllegalArgumentException("a field of the artifact's JSON has another type than expected", error);
        }
    }

    /**
     * Hold the engine's bytes against the JSON. Reads the stream to its end and leaves it open.
     *
     * @throws IllegalArgumentException they are not the ones that the JSON describes
     */
    public void check(InputStream engine) throws IOException {
        MessageDigest digest;
        try {
            digest = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException error) {
            throw new AssertionError("every Java has SHA-256", error);
        }
        byte[] block = new byte[1 << 16];
        for (int read; (read = engine.read(block)) >= 0; ) digest.update(block, 0, read);
        StringBuilder found = new StringBuilder();
        for (byte b : digest.digest()) found.append(String.format("%02x", b));
        if (!found.toString().equals(sha256)) {
            throw refused("SHA-256 of " + file, found, sha256 + ": the file was changed or cut short");
        }
    }

    private static int[] shape(Fields tensor, String dtype) {
        if (!tensor.text("dtype").equals(dtype)) throw refused("dtype", tensor.text("dtype"), dtype);
        if (!tensor.text("layout").equals("NHWC")) throw refused("layout", tensor.text("layout"), "NHWC");
        int[] shape = numbers(tensor.list("shape"));
        boolean fixed = shape.length == 4 && shape[0] == 1;
        for (int dimension : shape) fixed &= dimension > 0;
        if (!fixed) throw refused("shape", tensor.list("shape"), "four fixed dimensions, the first of them 1");
        return shape;
    }

    private static int[] colours(List<?> triples) {
        int[] colours = new int[triples.size()];
        for (int k = 0; k < colours.length; k++) {
            int[] rgb = numbers((List<?>) triples.get(k));
            boolean valid = rgb.length == 3;
            for (int channel : rgb) valid &= channel >= 0 && channel <= 255;
            if (!valid) throw refused("colour", triples.get(k), "three numbers from 0 to 255");
            colours[k] = rgb[0] << 16 | rgb[1] << 8 | rgb[2];
        }
        return colours;
    }

    private static int[] numbers(List<?> items) {
        int[] numbers = new int[items.size()];
        for (int k = 0; k < numbers.length; k++) numbers[k] = whole("a number of a list", (Double) items.get(k));
        return numbers;
    }

    private static int whole(String name, double value) {
        if (value != (int) value) throw refused(name, value, "a whole number");
        return (int) value;
    }

    private static IllegalArgumentException refused(String field, Object found, String expected) {
        return new IllegalArgumentException(field + " is " + found + "; expected " + expected);
    }

    /** A JSON object whose fields must be there. */
    private static final class Fields {
        private final Map<?, ?> values;

        Fields(Object values) {
            this.values = (Map<?, ?>) values;
        }

        private Object need(String key) {
            Object value = values.get(key);
            if (value == null) throw refused(key, "missing from the artifact's JSON", "a value");
            return value;
        }

        String text(String key) {
            return (String) need(key);
        }

        int whole(String key) {
            return Artifact.whole(key, (Double) need(key));
        }

        boolean flag(String key) {
            return (Boolean) need(key);
        }

        List<?> list(String key) {
            return (List<?>) need(key);
        }

        Fields in(String key) {
            return new Fields(need(key));
        }
    }
}
