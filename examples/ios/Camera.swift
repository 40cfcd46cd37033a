import AVFoundation

/// The back camera, one frame at a time: frames that arrive while one is being segmented are dropped, not queued.
final class Camera: NSObject, AVCaptureVideoDataOutputSampleBufferDelegate {
    enum Failure: Error {
        case notAllowed
        case notAvailable
    }

    let session = AVCaptureSession()
    private let queue = DispatchQueue(label: "camera", qos: .userInteractive)
    private var onFrame: (CVPixelBuffer) -> Void = { _ in }

    func start(onFrame: @escaping (CVPixelBuffer) -> Void) async throws {
        guard await AVCaptureDevice.requestAccess(for: .video) else { throw Failure.notAllowed }
        guard let device = AVCaptureDevice.default(.builtInWideAngleCamera, for: .video, position: .back) else {
            throw Failure.notAvailable
        }
        let (input, output) = (try AVCaptureDeviceInput(device: device), AVCaptureVideoDataOutput())
        output.alwaysDiscardsLateVideoFrames = true
        output.setSampleBufferDelegate(self, queue: queue)
        session.beginConfiguration()
        session.sessionPreset = .vga640x480  // nearest to the network's size: resizing more costs and gains nothing
        guard session.canAddInput(input), session.canAddOutput(output) else { throw Failure.notAvailable }
        session.addInput(input)
        session.addOutput(output)
        session.commitConfiguration()
        self.onFrame = onFrame
        queue.async { self.session.startRunning() }
    }

    func stop() {
        queue.async { self.session.stopRunning() }
    }

    func captureOutput(_ output: AVCaptureOutput, didOutput buffer: CMSampleBuffer,
                       from connection: AVCaptureConnection) {
        if let frame = CMSampleBufferGetImageBuffer(buffer) { onFrame(frame) }
    }
}
