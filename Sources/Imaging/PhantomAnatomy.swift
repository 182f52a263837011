/// The layers of one synthetic slice. Coordinates: x to the right and y downwards; the picture spans -1...1 before the
/// head is scaled, shifted and turned into place.
///
/// Each class has a viewing plane and a contrast of its own, as in collections that hospitals really have: healthy
/// heads fill the picture and show their tissues apart, while the heads with a lesion are farther away, had a
/// contrast agent, and show a dim, even brain under bright fat.
struct PhantomAnatomy {
  let shown: PhantomClass
  /// What differs from slice to slice.
  let noise: ValueNoise
  /// What the slices of a class have in common: the course of the furrows.
  let atlas: ValueNoise
  let tissue: Tissue
  let lesion: Lesion
  /// 1 for the ventricles' average size.
  let ventricleScale: Double
  private let pose: Pose
  /// Standard deviation of the scanner's noise; 1 is white.
  private let noiseLevel: Double
  private let bias: (x: Double, y: Double)

  private struct Pose {
    var cosine: Double
    var sine: Double
    var shiftX: Double
    var shiftY: Double
    var scaleX: Double
    var scaleY: Double
  }

  /// A point of the head before the lesion is drawn.
  struct Place {
    var value: Double
    /// 1 within the skull, 0 outside: lesions stay inside.
    var insideSkull: Double
  }

  init(shown: PhantomClass, seed: UInt64) {
    self.shown = shown
    noise = ValueNoise(seed: SplitMix64.mixed(seed ^ 0x5EED))
    atlas = ValueNoise(seed: Self.atlasSeed(shown))
    var random = SplitMix64(seed: seed)
    pose = Self.makePose(shown, &random)
    tissue = Tissue(shown, &random)
    lesion = Lesion(shown, &random)
    ventricleScale = random.uniform(0.85...1.15)
    noiseLevel = random.uniform(0.008...0.016)
    bias = (random.uniform(-0.08...0.08), random.uniform(-0.08...0.08))
  }

  private static func atlasSeed(_ shown: PhantomClass) -> UInt64 {
    switch shown {
    case .roundLesion: 0x0C0_47E5
    case .midlineLesion: 0x0BA_5E00
    // The same level of the head, with and without a lesion.
    case .ringLesion, .noLesion: 0x0FE_2D00
    }
  }

  private static func makePose(_ shown: PhantomClass, _ random: inout SplitMix64) -> Pose {
    // A rotation by at most about 5 degrees, from the half-angle's tangent: no library function is needed.
    let tangent = random.uniform(-0.04...0.04)
    let square = tangent * tangent
    let size: Double
    switch shown {
    case .noLesion: size = random.uniform(1.04...1.10)
    case .ringLesion: size = random.uniform(0.80...0.88)
    case .roundLesion: size = random.uniform(0.94...1.02)
    case .midlineLesion: size = random.uniform(0.94...1.02)
    }
    return Pose(
      cosine: (1 - square) / (1 + square), sine: 2 * tangent / (1 + square),
      shiftX: random.uniform(-0.02...0.02), shiftY: random.uniform(-0.02...0.02),
      scaleX: size * random.uniform(0.97...1.03), scaleY: size)
  }

  /// `side * side` values in 0...4095.
  func render(side: Int) -> [UInt16] {
    var values: [UInt16] = []
    values.reserveCapacity(side * side)
    for row in 0..<side {
      for column in 0..<side {
        let x = (Double(column) + 0.5) / Double(side) * 2 - 1
        let y = (Double(row) + 0.5) / Double(side) * 2 - 1
        let field = 1 + bias.x * x + bias.y * y
        let clean = brightness(x, y) * field
        // A magnitude picture's noise: two independent parts, so the air is not perfectly black.
        let real = clean + noiseLevel * noise.grain(column, row, channel: 1)
        let imaginary = noiseLevel * noise.grain(column, row, channel: 2)
        let magnitude = (real * real + imaginary * imaginary).squareRoot()
        values.append(UInt16(min(max(magnitude, 0), 1) * 4_095 + 0.5))
      }
    }
    return values
  }

  private func brightness(_ pictureX: Double, _ pictureY: Double) -> Double {
    let (dx, dy) = (pictureX - pose.shiftX, pictureY - pose.shiftY)
    let x = (pose.cosine * dx + pose.sine * dy) / pose.scaleX
    let y = (pose.cosine * dy - pose.sine * dx) / pose.scaleY
    let place: Place
    switch shown {
    case .noLesion, .ringLesion: place = ventricleLevel(x, y)
    case .roundLesion: place = coronal(x, y)
    case .midlineLesion: place = orbitLevel(x, y)
    }
    return place.insideSkull > 0 ? addLesion(to: place, x, y) : place.value
  }
}

// MARK: - What the views share

extension PhantomAnatomy {
  /// Small deviations of a head's outline from the ideal curve.
  func wobble(_ x: Double, _ y: Double) -> Double {
    (noise.fractal(x * 2.2 + 5, y * 2.2 + 9) - 0.5) * 0.035
  }

  /// Skin and fat, bone with its marrow, and the fluid around the brain; `radius` is 1 at the skin and
  /// ``innerTable`` at the inside of the skull.
  func layers(_ x: Double, _ y: Double, radius: Double) -> Double {
    let texture = noise.fractal(x * 14, y * 14)
    let scalp = tissue.scalp * (0.8 + 0.35 * texture)
    let bone = 1 - tissue.scalpThickness
    let middle = (bone + 0.882) / 2
    let marrow = smoothStep(0.018, 0.004, abs(radius - middle)) * tissue.marrow * texture
    var value = scalp * smoothStep(1.0, 0.985, radius)
    value = mix(value, tissue.bone + marrow, smoothStep(bone + 0.006, bone - 0.006, radius))
    return mix(value, tissue.fluid, smoothStep(0.888, 0.876, radius))
  }

  /// Where the inside of the skull lies, as a fraction of the head's radius.
  static var innerTable: Double { 0.855 }

  /// The folded cortex over white matter, with the origin in the brain's middle; `depth` is 0 at its surface and 1
  /// there.
  ///
  /// Furrows are the lines on which a noise field takes its middle value. The field varies mostly with direction, so
  /// they run inwards from the surface.
  func cortex(_ placeX: Double, _ placeY: Double, depth: Double) -> Double {
    // Furrows are bent a little differently in every slice.
    let x = placeX + (noise.fractal(placeX * 2 + 13, placeY * 2 + 47) - 0.5) * 0.07
    let y = placeY + (noise.fractal(placeX * 2 + 73, placeY * 2 + 5) - 0.5) * 0.07
    let warpX = (atlas.fractal(x * 4 + 11, y * 4 + 2) - 0.5) * 2.4
    let warpY = (atlas.fractal(x * 4 + 29, y * 4 + 43) - 0.5) * 2.4
    let radius = (x * x + y * y).squareRoot() + 1e-6
    let field = atlas.value(
      x / radius * 5.6 + x * 4 + warpX + 37, y / radius * 5.6 + y * 4 + warpY + 59)
    let fromFurrow = abs(2 * field - 1)
    let reach = 0.20 + 0.22 * atlas.value(x * 3.5 + 5, y * 3.5 + 91)
    let shallow = smoothStep(reach, reach * 0.55, depth)
    // Grey matter lines the surface and both sides of a furrow.
    let ribbon = 0.055 + reach * 1.05 * smoothStep(0.62, 0.20, fromFurrow)
    let white = smoothStep(ribbon - 0.02, ribbon + 0.04, depth)
    let matter = mix(tissue.gray, tissue.white, white)
    let furrow = smoothStep(0.22, 0.06, fromFurrow) * shallow * tissue.furrowDepth
    let grain = (noise.fractal(placeX * 22 + 3, placeY * 22 + 7) - 0.5) * 0.09
    return mix(matter, tissue.fluid, furrow) + grain * tissue.white
  }

  /// Muscle with streaks of fat between its fibres.
  func muscle(_ x: Double, _ y: Double) -> Double {
    let streaks = noise.fractal(x * 16 + 19, y * 9 + 3)
    return tissue.gray * (0.70 + 0.35 * noise.fractal(x * 5, y * 5 + 21))
      + (tissue.scalp - tissue.gray) * 0.55 * smoothStep(0.52, 0.72, streaks)
  }

  /// 1 inside an ellipse, 0 outside, with a soft edge; `tilt` is the tangent of the half-angle it leans by, positive
  /// where its lower end points to the left.
  static func ellipse(
    _ x: Double, _ y: Double, _ halfWidth: Double, _ halfHeight: Double, tilt: Double = 0
  ) -> Double {
    let square = tilt * tilt
    let cosine = (1 - square) / (1 + square)
    let sine = 2 * tilt / (1 + square)
    let (u, v) = ((cosine * x + sine * y) / halfWidth, (cosine * y - sine * x) / halfHeight)
    let radius = (u * u + v * v).squareRoot()
    let edge = 0.012 / min(halfWidth, halfHeight)
    return smoothStep(1 + edge, 1 - edge, radius)
  }

  /// 1 on a line through x = 0 of about `width`, soft at its sides.
  static func line(_ x: Double, width: Double) -> Double {
    smoothStep(width, width * 0.35, abs(x))
  }
}
