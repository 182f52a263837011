internal import Base
internal import CKernels
internal import Glibc

/// Random views of training pictures.
public struct Augmentation: Sendable, Equatable {
  /// Largest rotation either way, in degrees.
  public var rotationDegrees = 12.0
  /// Largest shift either way, as a share of the side.
  public var shift = 0.08
  /// Largest change of size either way.
  public var scale = 0.10
  /// Largest change of contrast either way.
  public var contrast = 0.20
  /// Largest change of brightness either way; black stays black.
  public var brightness = 0.05
  /// Whether left and right may be exchanged: not where anatomy tells them apart.
  public var flips = true

  public init() {}

  /// Every picture as it is.
  public static var none: Augmentation {
    var none = Augmentation()
    (none.rotationDegrees, none.shift, none.scale, none.contrast, none.brightness, none.flips) = (
      0, 0, 0, 0, 0, false
    )
    return none
  }

  /// Darker values are background.
  private static let floor: Float = 0.02

  /// A view of an image of planes; the same numbers give the same view.
  func view(
    of image: UnsafePointer<Float>, into out: UnsafeMutablePointer<Float>, extent: ImageExtent,
    dice: inout SplitMix64
  ) {
    func draw(_ range: Double) -> Double {
      range == 0 ? 0 : Double.random(in: -range...range, using: &dice)
    }
    let planeElements = extent.pixels
    if self == .none {
      out.update(from: image, count: extent.channels * planeElements)
      return
    }
    let angle = draw(rotationDegrees) * .pi / 180
    let size = 1 + draw(scale)
    let (across, down) = (draw(shift) * Double(extent.width), draw(shift) * Double(extent.height))
    let mirror = flips && Bool.random(using: &dice) ? -1.0 : 1.0
    let map: InlineArray<6, Float> = [
      Float(size * cos(angle) * mirror), Float(-size * sin(angle)), Float(across),
      Float(size * sin(angle) * mirror), Float(size * cos(angle)), Float(down),
    ]
    let gain = Float(1 + draw(contrast))
    let offset = Float(draw(brightness))
    map.span.withUnsafeBufferPointer { map in
      for plane in 0..<extent.channels {
        sfmedir_affine_view(
          image + plane * planeElements, out + plane * planeElements, extent.height, extent.width,
          map.baseAddress, gain, offset, Self.floor)
      }
    }
  }
}

/// Independent dice for each purpose, stage, step and image, whoever draws first.
enum TrainingDice {
  enum Purpose: UInt64 {
    case order = 1
    case view, start, depth, split, parameters, attack
  }

  static func dice<let count: Int>(
    _ seed: UInt64, _ purpose: Purpose, _ numbers: InlineArray<count, Int>
  ) -> SplitMix64 {
    var mixed = SplitMix64(seed: seed ^ (purpose.rawValue << 56))
    var state = mixed.next()
    for at in numbers.indices {
      mixed = SplitMix64(seed: state ^ UInt64(bitPattern: Int64(numbers[at])))
      state = mixed.next()
    }
    return SplitMix64(seed: state)
  }
}

extension Augmentation {
  /// A view of a picture of a set: [channels][height][width].
  package func view(of set: TrainingSet, image: Int, seed: UInt64) -> [Float] {
    var dice = SplitMix64(seed: seed)
    var out = [Float](repeating: 0, count: set.imageElements)
    view(
      of: set.image(image), into: &out,
      extent: ImageExtent(count: 1, height: set.height, width: set.width, channels: set.channels),
      dice: &dice)
    return out
  }
}
