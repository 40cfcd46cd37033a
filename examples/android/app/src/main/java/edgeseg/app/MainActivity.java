package edgeseg.app;

import android.Manifest;
import android.os.Bundle;
import androidx.activity.ComponentActivity;
import androidx.activity.result.contract.ActivityResultContracts;
import androidx.camera.core.CameraSelector;
import androidx.camera.core.ImageAnalysis;
import androidx.camera.core.ImageProxy;
import androidx.camera.lifecycle.ProcessCameraProvider;
import com.google.common.util.concurrent.ListenableFuture;
import java.io.IOException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** The back camera, segmented: frames that arrive while one is being worked on are dropped, not queued. */
public final class MainActivity extends ComponentActivity {
    private static final int THREADS = 2;

    private final ExecutorService worker = Executors.newSingleThreadExecutor();
    private OverlayView view;
    private Segmenter segmenter;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        view = new OverlayView(this);
        setContentView(view);
        try {
            segmenter = new Segmenter(getAssets(), THREADS);
        } catch (IOException | IllegalArgumentException error) {
            view.say(error.getMessage());
            return;
        }
        view.legend(segmenter.artifact.classes, segmenter.artifact.palette);
        registerForActivityResult(new ActivityResultContracts.RequestPermission(), granted -> {
            if (granted) open();
            else view.say("The camera was not allowed; allow it in the system's settings for this app.");
        }).launch(Manifest.permission.CAMERA);
    }

    private void open() {
        ListenableFuture<ProcessCameraProvider> provider = ProcessCameraProvider.getInstance(this);
        provider.addListener(() -> {
            try {
                provider.get().bindToLifecycle(this, CameraSelector.DEFAULT_BACK_CAMERA, analysis());
            } catch (ExecutionException | InterruptedException | IllegalArgumentException error) {
                view.say("The back camera cannot be opened: " + error.getMessage());
            }
        }, getMainExecutor());
    }

    /** 640x480 by default, nearest to the networks' sizes: more pixels would only be resized away. */
    private ImageAnalysis analysis() {
        ImageAnalysis analysis = new ImageAnalysis.Builder()
                .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
                .setOutputImageRotationEnabled(true)
                .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
                .build();
        analysis.setAnalyzer(worker, this::segment);
        return analysis;
    }

    private void segment(ImageProxy image) {
        try (image) {
            view.show(segmenter.segment(image));
        } catch (IllegalArgumentException error) {
            view.say(error.getMessage());
        }
    }

    @Override
    protected void onDestroy() {
        super.onDestroy();
        if (segmenter != null) worker.execute(segmenter::close);  // after the frame that is being worked on
        worker.shutdown();
    }
}
