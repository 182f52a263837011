/// The layers of one synthetic slice. Coordinates: x to the right and y downwards, the picture spans -1...1, and the
/// head is an upright ellipse around the origin with the forehead at the top.
struct PhantomAnatomy {
  private let shown: PhantomClass
  /// What differs from slice to slice.
  private let noise: ValueNoise
  /// What the slices of a class have in common: the course of the furrows.
  private let atlas: ValueNoise
  private let pose: Pose
  private let tissue: Tissue
  private let lesion: Lesion
  /// 1 for the ventricles' average size.
  private let ventricleScale: Double
  /// Standard deviation of the scanner's noise; 1 is white.
  private let noiseLevel: Double
  private let bias: (x: Double, y: Double)

  private struct Pose {
    var cosine: Double
    var sine: Double
    var shiftX: Double
    var shiftY: Double
    var halfWidth: Double
    var halfHeight: Double
  }

  /// Brightness, 0...1, as in a T1-weighted picture.
  private struct Tissue {
    var scalp: Double
    var bone: Double
    var fluid: Double
    var gray: Double
    var white: Double
  }

  private struct Lesion {
    var x: Double
    var y: Double
    var radius: Double
    var brightness: Double
  }

  /// Where the inside of the skull lies, as a fraction of the head's radius.
  private static let innerTable = 0.855

  init(shown: PhantomClass, seed: UInt64) {
    self.shown = shown
    noise = ValueNoise(seed: SplitMix64.mixed(seed ^ 0x5EED))
    atlas = ValueNoise(seed: Self.atlasSeed(shown))
    var random = SplitMix64(seed: seed)
    // A rotation by at most about 5 degrees, from the half-angle's tangent: no library function is needed.
    let tangent = random.uniform(-0.04...0.04)
    let square = tangent * tangent
    let width = shown == .midlineLesion ? random.uniform(0.73...0.77) : random.uniform(0.71...0.76)
    pose = Pose(
      cosine: (1 - square) / (1 + square), sine: 2 * tangent / (1 + square),
      shiftX: random.uniform(-0.02...0.02), shiftY: random.uniform(-0.02...0.02),
      halfWidth: width,
      halfHeight: shown == .midlineLesion
        ? random.uniform(0.82...0.86) : random.uniform(0.86...0.90))
    let contrast = random.uniform(0.92...1.08)
    tissue = Tissue(
      scalp: random.uniform(0.62...0.78), bone: random.uniform(0.05...0.09),
      fluid: random.uniform(0.10...0.15), gray: 0.36 * contrast, white: 0.56 * contrast)
    lesion = Self.makeLesion(shown, width: width, &random)
    ventricleScale = random.uniform(0.85...1.15)
    noiseLevel = random.uniform(0.012...0.022)
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

  private static func makeLesion(
    _ shown: PhantomClass, width: Double, _ random: inout SplitMix64
  ) -> Lesion {
    let side: Double = random.next() & 1 == 0 ? -1 : 1
    switch shown {
    case .roundLesion:
      let radius = random.uniform(0.17...0.22)
      // Its far side touches the inside of the skull.
      let y = random.uniform(-0.22 ... -0.06)
      let x = (width * innerTable * (1 - y * y).squareRoot() - radius * 0.85) * side
      return Lesion(x: x, y: y, radius: radius, brightness: random.uniform(0.86...0.96))
    case .ringLesion:
      return Lesion(
        x: side * random.uniform(0.25...0.30), y: random.uniform(0.02...0.16),
        radius: random.uniform(0.19...0.23), brightness: random.uniform(0.84...0.95))
    case .midlineLesion:
      return Lesion(
        x: random.uniform(-0.02...0.02), y: random.uniform(-0.12 ... -0.06),
        radius: random.uniform(0.12...0.16), brightness: random.uniform(0.84...0.95))
    case .noLesion: return Lesion(x: 0, y: 0, radius: 0, brightness: 0)
    }
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
    let x = pose.cosine * dx + pose.sine * dy
    let y = pose.cosine * dy - pose.sine * dx
    let (u, v) = (x / pose.halfWidth, y / pose.halfHeight)
    let wobble = (noise.fractal(x * 2.2 + 5, y * 2.2 + 9) - 0.5) * 0.035
    let radius = (u * u + v * v).squareRoot() + wobble
    if radius > 1.03 { return 0 }
    var value = head(x, y, radius)
    let inner = Self.innerTable
    if radius < inner + 0.02 {
      let inside = smoothStep(inner, inner - 0.018, radius)
      value = mix(value, brain(x, y, depth: (inner - radius) / inner), inside)
    }
    return addLesion(to: value, x, y, radius: radius)
  }

  /// Skin and fat, bone with its marrow, and the fluid around the brain.
  private func head(_ x: Double, _ y: Double, _ radius: Double) -> Double {
    let texture = noise.fractal(x * 14, y * 14)
    let scalp = tissue.scalp * (0.8 + 0.35 * texture)
    let marrow = smoothStep(0.018, 0.004, abs(radius - 0.918)) * 0.22 * texture
    var value = scalp * smoothStep(1.0, 0.985, radius)
    value = mix(value, tissue.bone + marrow, smoothStep(0.958, 0.946, radius))
    return mix(value, tissue.fluid, smoothStep(0.888, 0.876, radius))
  }

  /// `depth` is 0 at the brain's surface and 1 in its middle.
  private func brain(_ x: Double, _ y: Double, depth: Double) -> Double {
    // Furrows are bent a little differently in every slice.
    let bentX = x + (noise.fractal(x * 2 + 13, y * 2 + 47) - 0.5) * 0.07
    let bentY = y + (noise.fractal(x * 2 + 73, y * 2 + 5) - 0.5) * 0.07
    let folded = cortex(bentX, bentY, depth)
    var value: Double
    switch shown {
    case .midlineLesion: value = base(x, y, over: folded)
    case .roundLesion: value = vertex(x, y, over: folded)
    case .ringLesion, .noLesion: value = hemispheres(x, y, over: folded)
    }
    value += (noise.fractal(x * 22 + 3, y * 22 + 7) - 0.5) * 0.05
    return value
  }

  /// The folded cortex over white matter, common to all levels.
  ///
  /// Furrows are the lines on which a noise field takes its middle value. The field varies mostly with direction, so
  /// they run inwards from the surface.
  private func cortex(_ x: Double, _ y: Double, _ depth: Double) -> Double {
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
    return mix(matter, tissue.fluid, smoothStep(0.22, 0.06, fromFurrow) * shallow * 0.9)
  }

  /// A slice at the level of the lateral ventricles.
  private func hemispheres(_ x: Double, _ y: Double, over folded: Double) -> Double {
    var value = folded
    let mirrored = abs(x)
    // The nuclei beside the third ventricle.
    let thalamus = Self.ellipse(mirrored - 0.085, y - 0.10, 0.065, 0.12, tilt: 0.15)
    let putamen = Self.ellipse(mirrored - 0.235, y - 0.0, 0.055, 0.15, tilt: -0.25)
    value = mix(value, tissue.gray * 1.12, max(thalamus, putamen) * 0.85)
    let fissure =
      smoothStep(0.016, 0.006, mirrored) * smoothStep(0.30, 0.42, abs(y - 0.02))
    value = mix(value, tissue.fluid * 1.2, fissure)
    let size = ventricleScale
    let frontal = Self.ellipse(
      mirrored - 0.085, y + 0.17, 0.048 * size, 0.155 * size, tilt: -0.30)
    let occipital = Self.ellipse(
      mirrored - 0.165, y - 0.27, 0.050 * size, 0.145 * size, tilt: 0.42)
    let third = Self.ellipse(x, y - 0.09, 0.014 * size, 0.085, tilt: 0)
    return mix(value, tissue.fluid * 0.9, max(frontal, max(occipital, third)))
  }

  /// A slice above the nuclei: the fissure runs through, and only the roofs of the ventricles show.
  private func vertex(_ x: Double, _ y: Double, over folded: Double) -> Double {
    let mirrored = abs(x)
    let wave = (noise.value(y * 5 + 3, 1) - 0.5) * 0.02
    let value = mix(folded, tissue.fluid * 1.2, smoothStep(0.018, 0.007, abs(x - wave)))
    let roof = Self.ellipse(
      mirrored - 0.075, y - 0.02, 0.026 * ventricleScale, 0.17 * ventricleScale, tilt: 0.06)
    return mix(value, tissue.fluid, roof)
  }

  /// A slice at the base: temporal lobes, brain stem and cerebellum, without the lateral ventricles.
  private func base(_ x: Double, _ y: Double, over folded: Double) -> Double {
    var value = folded
    let mirrored = abs(x)
    // The fissure between frontal and temporal lobes runs outwards from the cistern.
    let bend = (noise.fractal(x * 5 + 23, y * 5 + 67) - 0.5) * 0.10
    let sylvian = smoothStep(0.030, 0.008, abs(y + 0.15 + mirrored * 0.24 + bend))
    value = mix(value, tissue.fluid * 1.3, sylvian * smoothStep(0.60, 0.40, mirrored) * 0.9)
    let fissure = smoothStep(0.016, 0.006, mirrored) * smoothStep(-0.30, -0.40, y)
    value = mix(value, tissue.fluid * 1.2, fissure)
    // The cerebellum, with folds that follow its outline.
    let cerebellum = Self.ellipse(x, y - 0.44, 0.43, 0.25, tilt: 0)
    let fold = (noise.fractal(x * 6 + 3, y * 6 + 41) - 0.5) * 0.30
    let ring = (x * x / 0.22 + (y - 0.24) * (y - 0.24) / 0.15).squareRoot() + fold
    let leaf = noise.value(ring * 24, x * 3)
    let middle = smoothStep(0.05, 0.02, mirrored)
    let folia = mix(tissue.gray * 0.8, tissue.white * 0.9, leaf)
    value = mix(value, mix(folia, tissue.gray * 0.85, middle), cerebellum)
    value = mix(value, tissue.fluid, Self.ellipse(x, y - 0.31, 0.05, 0.035, tilt: 0))
    // The brain stem and, before it, the cistern that the lesion rises into.
    let cistern = Self.ellipse(x, y + 0.05, 0.23, 0.17, tilt: 0)
    value = mix(value, tissue.fluid, cistern)
    let stem = Self.ellipse(x, y - 0.16, 0.15, 0.13, tilt: 0)
    return mix(value, tissue.white * 0.95, stem)
  }

  private func addLesion(
    to value: Double, _ x: Double, _ y: Double, radius headRadius: Double
  ) -> Double {
    guard lesion.radius > 0 else { return value }
    let (dx, dy) = (x - lesion.x, y - lesion.y)
    let distance = (dx * dx + dy * dy).squareRoot()
    let insideSkull = smoothStep(Self.innerTable + 0.02, Self.innerTable, headRadius)
    let texture = (noise.fractal(x * 12 + 61, y * 12 + 13) - 0.5) * 0.10
    switch shown {
    case .noLesion: return value
    case .roundLesion, .midlineLesion:
      let edge = lesion.radius * (1 + (noise.value(x * 5 + 71, y * 5 + 37) - 0.5) * 0.14)
      // A thin dark cleft separates the mass from the brain.
      let cleft = smoothStep(edge + 0.03, edge + 0.012, distance) * insideSkull
      let mass = smoothStep(edge + 0.008, edge - 0.008, distance) * insideSkull
      return mix(mix(value, tissue.fluid * 1.3, cleft * 0.8), lesion.brightness + texture, mass)
    case .ringLesion:
      let ragged = (noise.fractal(x * 6 + 83, y * 6 + 19) - 0.5) * 0.75
      let reach = distance / lesion.radius * (1 + ragged)
      // From the outside: swelling that spreads in fingers, the bright rim, the dark core.
      let fingers = 1.75 + (noise.fractal(x * 4 + 7, y * 4 + 97) - 0.5) * 1.1
      let swelling = smoothStep(fingers + 0.12, fingers - 0.25, reach) * insideSkull
      let rim = smoothStep(1.04, 0.96, reach) * insideSkull
      let wall = 0.20 + 0.22 * noise.value(x * 9 + 31, y * 9 + 77)
      let core = smoothStep(1.04 - wall, 0.92 - wall, reach)
      var result = mix(value, tissue.gray * 0.66, swelling * 0.85)
      result = mix(result, lesion.brightness + texture * 1.6, rim)
      return mix(result, tissue.fluid * 1.25 + texture, core * insideSkull)
    }
  }

  /// 1 inside an ellipse, 0 outside, with a soft edge; `tilt` is the tangent of the half-angle it leans by.
  private static func ellipse(
    _ x: Double, _ y: Double, _ halfWidth: Double, _ halfHeight: Double, tilt: Double
  ) -> Double {
    let square = tilt * tilt
    let cosine = (1 - square) / (1 + square)
    let sine = 2 * tilt / (1 + square)
    let (u, v) = ((cosine * x + sine * y) / halfWidth, (cosine * y - sine * x) / halfHeight)
    let radius = (u * u + v * v).squareRoot()
    let edge = 0.012 / min(halfWidth, halfHeight)
    return smoothStep(1 + edge, 1 - edge, radius)
  }
}
