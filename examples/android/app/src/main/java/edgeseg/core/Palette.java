package edgeseg.core;

/** Class maps as pictures. */
public final class Palette {
    private final int[] argb = new int[256];

    /**
     * @param colours one 0xRRGGBB per class
     * @param opacity of the overlay, 0 to 1
     */
    public Palette(int[] colours, float opacity) {
        int alpha = Math.round(255 * opacity) << 24;
        for (int k = 0; k < colours.length; k++) argb[k] = alpha | colours[k];
    }

    /** Class indices, unsigned bytes, to 0xAARRGGBB, not premultiplied, as Bitmap.setPixels takes it. */
    public void paint(byte[] mask, int[] pixels) {
        for (int n = 0; n < mask.length; n++) pixels[n] = argb[mask[n] & 255];
    }
}
