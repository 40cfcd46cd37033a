import edgeseg.core.Artifact;
import edgeseg.core.ExactMask;
import edgeseg.core.Json;
import edgeseg.core.Palette;
import edgeseg.core.Preprocess;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/** Lets test_android.py call the app's core: a command, and files in the folder that it names. One line for each case. */
final class AndroidCore {
    public static void main(String[] words) throws IOException {
        Path folder = Path.of(words[1]);
        for (String name : Arrays.copyOfRange(words, 2, words.length)) {
            String said;
            try {
                said = run(words[0], folder.resolve(name));
            } catch (IllegalArgumentException error) {
                said = "refused: " + error.getMessage();
            }
            System.out.println(said);
        }
    }

    private static String run(String command, Path path) throws IOException {
        switch (command) {
            case "json": return String.valueOf(Json.parse(Files.readString(path)));
            case "artifact": return artifact(path);
            case "mask": return mask(path);
            case "preprocess": return preprocess(path);
            default: throw new AssertionError(command);
        }
    }

    private static String artifact(Path json) throws IOException {
        Artifact it = Artifact.read(Files.readString(json));
        try (InputStream engine = Files.newInputStream(json.resolveSibling(it.file))) {
            it.check(engine);
        }
        int[] pixels = new int[it.palette.length];
        byte[] mask = new byte[pixels.length];
        for (int k = 0; k < mask.length; k++) mask[k] = (byte) k;
        new Palette(it.palette, 0.5f).paint(mask, pixels);
        StringBuilder colours = new StringBuilder();
        for (int pixel : pixels) colours.append(String.format(" %08x", pixel));
        return String.join(" ", it.name, it.precision, it.file, it.height + "x" + it.width, it.rows + "x" + it.columns,
                String.valueOf(it.alignCorners), String.join(",", it.classes)) + colours;
    }

    /** NAME holds rows, columns, classes, height, width, align as int32, and float32 logits; NAME.mask gets the mask. */
    private static String mask(Path path) throws IOException {
        ByteBuffer problem = ByteBuffer.wrap(Files.readAllBytes(path)).order(ByteOrder.LITTLE_ENDIAN);
        int[] size = new int[6];
        for (int k = 0; k < size.length; k++) size[k] = problem.getInt();
        float[] logits = new float[size[0] * size[1] * size[2]];
        problem.asFloatBuffer().get(logits);
        byte[] mask = new byte[size[3] * size[4]];
        ExactMask exact = new ExactMask(size[0], size[1], size[2], size[3], size[4], size[5] != 0);
        exact.classes(new float[logits.length], mask);  // what is left of the frame before must not show
        exact.classes(logits, mask);
        Files.write(path.resolveSibling(path.getFileName() + ".mask"), mask);
        return "done";
    }

    /** NAME holds height, width, row stride, new height and width as int32, and the bytes; NAME.bgr gets the picture. */
    private static String preprocess(Path path) throws IOException {
        ByteBuffer problem = ByteBuffer.wrap(Files.readAllBytes(path)).order(ByteOrder.LITTLE_ENDIAN);
        int[] size = new int[5];
        for (int k = 0; k < size.length; k++) size[k] = problem.getInt();
        ByteBuffer bgr = ByteBuffer.allocate(size[3] * size[4] * 3);
        new Preprocess(size[0], size[1], size[3], size[4]).fill(problem.slice(), size[2], bgr);
        Files.write(path.resolveSibling(path.getFileName() + ".bgr"), bgr.array());
        return "done";
    }
}
