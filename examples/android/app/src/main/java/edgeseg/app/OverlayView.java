package edgeseg.app;

import android.content.Context;
import android.graphics.Canvas;
import android.graphics.Color;
import android.graphics.Paint;
import android.graphics.RectF;
import android.os.SystemClock;
import android.view.View;
import java.util.List;
import java.util.Locale;

/** The frame, its classes in colours over it, a legend, and what it costs. `show` and `say` may come from any thread. */
final class OverlayView extends View {
    private final Paint picture = new Paint();  // unfiltered: a class has no colours in between
    private final Paint text = new Paint(Paint.ANTI_ALIAS_FLAG);
    private final Paint chip = new Paint();
    private List<String> classes = List.of();
    private int[] palette = {};
    private volatile Segmenter.Result result;
    private volatile String line = "Starting";
    private long shownAt;
    private double fps;

    OverlayView(Context context) {
        super(context);
        setBackgroundColor(Color.BLACK);
        setFitsSystemWindows(true);
        setKeepScreenOn(true);
        text.setColor(Color.WHITE);
        text.setTextSize(14 * getResources().getDisplayMetrics().scaledDensity);
    }

    void legend(List<String> classes, int[] palette) {
        this.classes = classes;
        this.palette = palette;
    }

    void show(Segmenter.Result result) {
        long now = SystemClock.elapsedRealtimeNanos();
        double rate = 1e9 / (now - shownAt);
        fps = fps == 0 ? rate : 0.9 * fps + 0.1 * rate;
        shownAt = now;
        this.result = result;
        say(String.format(Locale.ROOT, "%.1f FPS · preprocess %.1f · inference %.1f · mask %.1f ms", fps,
                result.preprocessMs, result.inferenceMs, result.maskMs));
    }

    void say(String line) {
        this.line = line;
        postInvalidate();
    }

    @Override
    protected void onDraw(Canvas canvas) {
        super.onDraw(canvas);
        Segmenter.Result shown = result;
        float row = 1.5f * text.getTextSize();
        float y = getPaddingTop() + row;
        canvas.drawText(line, row / 2, y, text);
        if (shown == null) return;
        float scale = Math.min((float) getWidth() / shown.frame.getWidth(),
                (float) getHeight() / shown.frame.getHeight());
        RectF place = new RectF(0, y + row / 2, scale * shown.frame.getWidth(),
                y + row / 2 + scale * shown.frame.getHeight());
        canvas.drawBitmap(shown.frame, null, place, picture);
        canvas.drawBitmap(shown.overlay, null, place, picture);
        drawLegend(canvas, place.bottom + row, row);
    }

    /** Colour chips with names, wrapped to the view's width; over the picture where there is no room below it. */
    private void drawLegend(Canvas canvas, float y, float row) {
        float size = text.getTextSize(), x = row / 2;
        y = Math.min(y, getHeight() - getPaddingBottom() - 4 * row);
        for (int k = 0; k < classes.size(); k++) {
            float needed = 1.5f * size + text.measureText(classes.get(k)) + size;
            if (x + needed > getWidth()) {
                x = row / 2;
                y += row;
            }
            chip.setColor(Color.BLACK | palette[k]);
            canvas.drawRect(x, y - size, x + size, y, chip);
            canvas.drawText(classes.get(k), x + 1.5f * size, y, text);
            x += needed;
        }
    }
}
