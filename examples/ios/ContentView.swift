import AVFoundation
import SwiftUI

@main
struct EdgeSegApp: App {
    var body: some Scene {
        WindowGroup { ContentView() }
    }
}

/// The camera's picture, the class map over it, and what it costs.
struct ContentView: View {
    @StateObject private var scene = SceneModel()

    var body: some View {
        ZStack(alignment: .bottom) {
            CameraPreview(session: scene.camera.session)
            if let overlay = scene.overlay {
                Image(decorative: overlay, scale: 1).resizable().interpolation(.none)
            }
            Text(scene.status).font(.footnote.monospacedDigit()).padding(8).background(.thinMaterial, in: Capsule())
                .padding()
        }
        .aspectRatio(3 / 4, contentMode: .fit)  // of the camera's 640x480, held upright
        .task { await scene.start() }
        .onDisappear { scene.camera.stop() }
    }
}

@MainActor
final class SceneModel: ObservableObject {
    @Published private(set) var overlay: CGImage?
    @Published private(set) var status = "Starting"
    let camera = Camera()

    func start() async {
        do {
            let segmenter = try SceneSegmenter()
            try await camera.start { [weak self] frame in
                let result = Result { try segmenter.segment(frame, orientation: .right) }  // held upright
                Task { @MainActor in self?.show(result) }
            }
        } catch {
            status = "\(error)"
        }
    }

    private func show(_ result: Result<Segmentation, Error>) {
        switch result {
        case .success(let segmentation):
            overlay = segmentation.overlay
            status = String(format: "%.1f ms", segmentation.milliseconds)
        case .failure(let error):
            status = "\(error)"
        }
    }
}

struct CameraPreview: UIViewRepresentable {
    let session: AVCaptureSession

    final class PreviewView: UIView {
        override class var layerClass: AnyClass { AVCaptureVideoPreviewLayer.self }
    }

    func makeUIView(context: Context) -> PreviewView {
        let view = PreviewView()
        (view.layer as? AVCaptureVideoPreviewLayer)?.session = session
        return view
    }

    func updateUIView(_ view: PreviewView, context: Context) {}
}
