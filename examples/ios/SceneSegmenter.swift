import CoreGraphics
import CoreML
import QuartzCore
import Vision

/// What a frame became: the coloured class map, and how long Core ML took.
struct Segmentation {
    let overlay: CGImage
    let milliseconds: Double
}

/// Runs one package of `python -m export.coreml` on camera frames.
///
/// Everything but three names comes from the package itself: size, class names and colours.
/// `tests/examples/test_ios.py` holds these names against a package that the exporter really writes.
final class SceneSegmenter {
    static let modelName = "lraspp-360x480-fp16-classes"
    static let outputName = "classes"
    static let labelsKey = "com.apple.coreml.model.preview.params"

    struct Labels: Decodable {
        let labels: [String]
        let colors: [String]  // "#RRGGBB", in the order of the labels
    }

    enum Failure: Error {
        case packageIsMissing(String)
        case metadataIsMissing(String)
        case outputIsNotAClassMap
    }

    let labels: Labels
    private let request: VNCoreMLRequest
    private let palette: [UInt32]

    /// - Parameter opacity: of the overlay, 0...1.
    init(opacity: Double = 0.5, computeUnits: MLComputeUnits = .all) throws {
        guard let url = Bundle.main.url(forResource: Self.modelName, withExtension: "mlmodelc") else {
            throw Failure.packageIsMissing(Self.modelName)
        }
        let configuration = MLModelConfiguration()
        configuration.computeUnits = computeUnits
        let model = try MLModel(contentsOf: url, configuration: configuration)
        guard let metadata = model.modelDescription.metadata[.creatorDefinedKey] as? [String: String],
              let json = metadata[Self.labelsKey]?.data(using: .utf8) else {
            throw Failure.metadataIsMissing(Self.labelsKey)
        }
        labels = try JSONDecoder().decode(Labels.self, from: json)
        palette = labels.colors.map { Self.pixel($0, opacity: opacity) }
        request = VNCoreMLRequest(model: try VNCoreMLModel(for: model))
        request.imageCropAndScaleOption = .scaleFill  // the whole frame, as the network was trained
    }

    /// - Parameter frame: as the camera delivers it; Core ML converts its colours and Vision its size.
    func segment(_ frame: CVPixelBuffer, orientation: CGImagePropertyOrientation) throws -> Segmentation {
        let start = CACurrentMediaTime()
        try VNImageRequestHandler(cvPixelBuffer: frame, orientation: orientation).perform([request])
        let observations = request.results as? [VNCoreMLFeatureValueObservation] ?? []
        guard let map = observations.first(where: { $0.featureName == Self.outputName })?.featureValue.multiArrayValue,
              map.dataType == .int32, map.shape.count == 3, let overlay = draw(map) else {
            throw Failure.outputIsNotAClassMap
        }
        return Segmentation(overlay: overlay, milliseconds: 1000 * (CACurrentMediaTime() - start))
    }

    /// int32 [1, H, W] → RGBA picture of the same size, colours premultiplied by the opacity.
    private func draw(_ map: MLMultiArray) -> CGImage? {
        let (height, width) = (map.shape[1].intValue, map.shape[2].intValue)
        let (rowStride, columnStride) = (map.strides[1].intValue, map.strides[2].intValue)
        var pixels = [UInt32](repeating: 0, count: height * width)
        map.withUnsafeBufferPointer(ofType: Int32.self) { classes in
            for y in 0..<height {
                for x in 0..<width {
                    let index = Int(classes[y * rowStride + x * columnStride])
                    if palette.indices.contains(index) { pixels[y * width + x] = palette[index] }
                }
            }
        }
        return pixels.withUnsafeMutableBytes { bytes in
            CGContext(data: bytes.baseAddress, width: width, height: height, bitsPerComponent: 8,
                      bytesPerRow: 4 * width, space: CGColorSpaceCreateDeviceRGB(),
                      bitmapInfo: CGImageAlphaInfo.premultipliedLast.rawValue)?.makeImage()
        }
    }

    /// "#RRGGBB" → RGBA in memory order (iPhones are little-endian), premultiplied.
    private static func pixel(_ colour: String, opacity: Double) -> UInt32 {
        let rgb = UInt32(colour.dropFirst(), radix: 16) ?? 0
        let channels = [rgb >> 16 & 255, rgb >> 8 & 255, rgb & 255].map { UInt32(Double($0) * opacity) }
        return channels[0] | channels[1] << 8 | channels[2] << 16 | UInt32(255 * opacity) << 24
    }
}
