/// The three planes in which synthetic heads are cut. Functions take a point in the head's coordinates.
extension PhantomAnatomy {
  // MARK: Horizontal, through the lateral ventricles

  func ventricleLevel(_ x: Double, _ y: Double) -> Place {
    let (u, v) = (x / 0.735, y / 0.88)
    let radius = (u * u + v * v).squareRoot() + wobble(x, y)
    if radius > 1.03 { return Place(value: 0, insideSkull: 0) }
    let inner = Self.innerTable
    let inside = smoothStep(inner, inner - 0.018, radius)
    var value = layers(x, y, radius: radius)
    if inside > 0 {
      let brain = hemispheres(x, y, depth: (inner - radius) / inner)
      value = mix(value, brain, inside)
    }
    return Place(
      value: sinus(over: value, x, y - 0.765), insideSkull: smoothStep(inner + 0.02, inner, radius))
  }

  private func hemispheres(_ x: Double, _ y: Double, depth: Double) -> Double {
    var value = cortex(x, y, depth: depth)
    let mirrored = abs(x)
    // The nuclei beside the third ventricle.
    let thalamus = Self.ellipse(mirrored - 0.085, y - 0.10, 0.065, 0.12, tilt: 0.15)
    let putamen = Self.ellipse(mirrored - 0.235, y - 0.0, 0.055, 0.15, tilt: -0.25)
    value = mix(value, tissue.gray * 1.12, max(thalamus, putamen) * 0.85)
    let fissure = Self.line(mirrored, width: 0.016) * smoothStep(0.30, 0.42, abs(y - 0.02))
    value = mix(value, tissue.fluid * 1.2, fissure)
    let size = ventricleScale
    let frontal = Self.ellipse(
      mirrored - 0.085, y + 0.17, 0.048 * size, 0.155 * size, tilt: 0.22)
    let occipital = Self.ellipse(
      mirrored - 0.165, y - 0.27, 0.045 * size, 0.145 * size, tilt: -0.30)
    let third = Self.ellipse(x, y - 0.09, 0.014 * size, 0.085)
    return mix(value, tissue.fluid * 0.9, max(frontal, max(occipital, third)))
  }

  /// The vein in the midline at the inside of the skull, which a contrast agent makes bright.
  private func sinus(over value: Double, _ x: Double, _ y: Double) -> Double {
    guard shown != .noLesion else { return value }
    return mix(value, tissue.scalp * 0.9, Self.ellipse(x, y, 0.035, 0.025) * 0.9)
  }

  // MARK: Coronal

  /// A slice through the face and the front of the brain, with the neck cut off by the picture's lower edge.
  func coronal(_ x: Double, _ y: Double) -> Place {
    let mirrored = abs(x)
    let (u, v) = (mirrored / 0.60, (y + 0.25) / 0.68)
    let jaw = 0.60 - 0.20 * smoothStep(0.0, 1.15, y)
    let radius = (v < 0 ? (u * u + v * v).squareRoot() : mirrored / jaw) + wobble(x, y)
    let ear = Self.ellipse(mirrored - 0.60, y - 0.13, 0.065, 0.12, tilt: 0.08)
    let hollow = Self.ellipse(mirrored - 0.62, y - 0.13, 0.022, 0.06, tilt: 0.08)
    let outside = tissue.scalp * (0.65 - 0.35 * hollow) * ear
    if radius > 1.03 { return Place(value: outside, insideSkull: 0) }
    // The temporal lobes hang lower than the middle.
    let lobe = (mirrored - 0.31) / 0.24
    let floor = 0.01 + 0.15 * smoothStep(1, 0, lobe * lobe) + wobble(y, x + 7)
    let inner = Self.innerTable
    let above = smoothStep(floor + 0.02, floor, y)
    let skull = layers(x, y, radius: radius)
    let below = face(x, y, radius: radius, underFloor: y - floor)
    var value = mix(below, skull, smoothStep(floor + 0.10, floor - 0.02, y))
    let inside = smoothStep(inner, inner - 0.018, radius) * above
    if inside > 0 {
      let depth = min((inner - radius) / inner, (floor - y) / 0.55)
      value = mix(value, coronalBrain(x, y, depth: depth), inside)
    }
    value = sinus(over: value, x, y + 0.80)
    return Place(
      value: max(value, outside), insideSkull: smoothStep(inner + 0.02, inner, radius) * above)
  }

  private func coronalBrain(_ x: Double, _ y: Double, depth: Double) -> Double {
    let mirrored = abs(x)
    var value = cortex(x, y + 0.28, depth: depth)
    let nuclei = Self.ellipse(mirrored - 0.19, y + 0.24, 0.07, 0.12, tilt: -0.12)
    value = mix(value, tissue.gray, nuclei * 0.8)
    // The fissure between frontal and temporal lobe runs outwards.
    let bend = (noise.fractal(x * 5 + 23, y * 5 + 67) - 0.5) * 0.12
    let sylvian = Self.line(y + 0.13 + mirrored * 0.10 + bend, width: 0.028)
    value = mix(value, tissue.fluid, sylvian * smoothStep(0.25, 0.34, mirrored) * 0.8)
    let fissure = Self.line(x, width: 0.016) * smoothStep(-0.52, -0.58, y)
    value = mix(value, tissue.fluid * 1.2, fissure)
    let size = ventricleScale
    let lateral = Self.ellipse(mirrored - 0.085, y + 0.43, 0.036 * size, 0.11 * size, tilt: 0.42)
    let third = Self.ellipse(x, y + 0.24, 0.013 * size, 0.07)
    let cistern = Self.ellipse(x, y + 0.05, 0.12, 0.035)
    return mix(value, tissue.fluid, max(lateral, max(third, cistern)))
  }

  /// The face beneath the brain: air in the sinuses, muscles, jaw and tongue in fat.
  private func face(_ x: Double, _ y: Double, radius: Double, underFloor: Double) -> Double {
    let mirrored = abs(x)
    let texture = noise.fractal(x * 11 + 3, y * 11 + 31)
    var value = tissue.scalp * (0.45 + 0.55 * texture)
    let chewing = Self.ellipse(mirrored - 0.44, y - 0.50, 0.055, 0.26, tilt: 0.05)
    let temple = Self.ellipse(mirrored - 0.49, y - 0.10, 0.045, 0.20, tilt: 0.04)
    let wing = Self.ellipse(mirrored - 0.23, y - 0.42, 0.075, 0.20, tilt: -0.10)
    let neck = smoothStep(0.78, 0.95, y + mirrored * 0.2)
    value = mix(value, muscle(x, y), max(max(chewing, temple), max(wing, neck)))
    let jaw = Self.ellipse(mirrored - 0.355, y - 0.55, 0.032, 0.24, tilt: 0.07)
    let jawMarrow = Self.ellipse(mirrored - 0.355, y - 0.55, 0.014, 0.20, tilt: 0.07)
    value = mix(mix(value, tissue.bone, jaw), tissue.scalp * 0.7, jawMarrow)
    let tongue = Self.ellipse(x, y - 0.80, 0.25, 0.19)
    value = mix(value, tissue.white * (0.8 + 0.5 * texture), tongue)
    value = mix(value, tissue.bone, Self.ellipse(x, y - 0.585, 0.20, 0.018))
    // Bone closes the skull from below; the sinus beneath the middle and the nose hold air.
    value = mix(value, tissue.bone, smoothStep(0.055, 0.03, underFloor))
    let septum = Self.line(x + (texture - 0.5) * 0.03, width: 0.012) * 0.3
    let sinus = Self.ellipse(mirrored - 0.055, y - 0.15, 0.085, 0.075, tilt: 0.1)
    let nose = Self.ellipse(mirrored - 0.05, y - 0.42, 0.045, 0.12, tilt: 0.06)
    value = mix(value, 0.02 + septum, max(sinus, nose))
    let fat = tissue.scalp * (0.75 + 0.35 * texture)
    value = mix(value, fat, smoothStep(0.90, 0.93, radius))
    return value * smoothStep(1.0, 0.985, radius)
  }

  // MARK: Horizontal, through the eyes

  func orbitLevel(_ x: Double, _ y: Double) -> Place {
    let mirrored = abs(x)
    let (u, v) = (x / 0.68, (y - 0.06) / (y < 0.06 ? 0.80 : 0.84))
    // The forehead is flatter than an ellipse.
    let flatness = y < 0.06 ? 0.28 * u * u * v * v : 0
    let head = (u * u + v * v - flatness).squareRoot() + wobble(x, y)
    let nose =
      smoothStep(0, 0.03, y + 0.89 - mirrored * mirrored * 14) * smoothStep(-0.60, -0.66, y)
    let lid = Self.ellipse(mirrored - 0.28, y + 0.57, 0.145, 0.145)
    let ear = Self.ellipse(mirrored - 0.675, y - 0.16, 0.05, 0.085, tilt: -0.25)
    let texture = 0.55 + 0.4 * noise.fractal(x * 14, y * 14)
    let skin = max(nose, max(lid, ear)) * tissue.scalp * texture
    if head > 1.03 && skin == 0 { return Place(value: 0, insideSkull: 0) }
    let inner = Self.innerTable
    // The temporal lobes reach farther forward than the middle.
    let lobe = (mirrored - 0.34) / 0.24
    let front = -0.20 - 0.12 * smoothStep(1, 0, lobe * lobe) + wobble(y, x + 7)
    let behind = smoothStep(front, front + 0.02, y)
    var value = max(layers(x, y, radius: head), skin)
    value = mix(orbits(x, y, radius: head, over: value), value, smoothStep(front - 0.06, front, y))
    let inside = smoothStep(inner, inner - 0.018, head) * behind
    if inside > 0 {
      let depth = min((inner - head) / inner, (y - front) / 0.6)
      value = mix(value, brainBase(x, y, depth: depth), inside)
    }
    value = sinus(over: value, x, y - 0.775)
    // The lesion bulges into the sinus before it.
    let room = smoothStep(front - 0.12, front - 0.10, y)
    return Place(value: value, insideSkull: smoothStep(inner + 0.02, inner, head) * room)
  }

  /// Eyes in fat, the nose's air cells between them, muscle at the temples.
  private func orbits(
    _ x: Double, _ y: Double, radius: Double, over value: Double
  ) -> Double {
    let mirrored = abs(x)
    let texture = noise.fractal(x * 12 + 7, y * 12 + 57)
    let within = smoothStep(0.985, 0.955, radius)
    var value = mix(value, muscle(x, y), within)
    value = mix(value, tissue.bone, Self.line(radius - 0.86, width: 0.03) * within * 0.7)
    // The orbit is a cone whose tip points backwards and inwards.
    let back = (y + 0.60) / 0.34
    let middle = 0.28 - 0.15 * back
    let reach = 0.165 * (1 - back) + 0.035
    let across = (mirrored - middle) / max(reach, 0.01)
    let depth = smoothStep(-0.1, 0.05, back) * smoothStep(1.06, 0.96, back) * within
    let wall = smoothStep(1.28, 1.16, abs(across)) * depth
    let cone = smoothStep(1.03, 0.93, abs(across)) * depth
    value = mix(value, tissue.bone, wall)
    value = mix(value, tissue.scalp * (0.85 + 0.3 * texture), cone)
    let strands = max(Self.line(across, width: 0.22), Self.line(abs(across) - 0.74, width: 0.24))
    value = mix(value, tissue.gray, cone * strands * 0.9)
    let cells = smoothStep(0.14, 0.11, mirrored) * smoothStep(-0.76, -0.70, y)
    let walls = Self.line(2 * noise.value(x * 17 + 5, y * 11 + 81) - 1, width: 0.30)
    let septum = Self.line(x, width: 0.016)
    let air = 0.02 + max(walls * 0.30, septum * 0.35)
    value = mix(value, air, cells * smoothStep(-0.20, -0.24, y))
    let ball = Self.ellipse(mirrored - 0.28, y + 0.57, 0.125, 0.125)
    let vitreous = Self.ellipse(mirrored - 0.28, y + 0.57, 0.105, 0.105)
    let lens = Self.ellipse(mirrored - 0.28, y + 0.655, 0.05, 0.022)
    value = mix(mix(value, tissue.gray * 1.2, ball), tissue.fluid * 1.1, vitreous)
    return mix(value, tissue.gray * 1.1, lens)
  }

  /// Temporal lobes, brain stem and cerebellum.
  private func brainBase(_ x: Double, _ y: Double, depth: Double) -> Double {
    let mirrored = abs(x)
    var value = cortex(x, y - 0.15, depth: depth)
    // The cerebellum, with folds that follow its outline, under a tent of dura.
    let cerebellum = Self.ellipse(x, y - 0.43, 0.40, 0.25)
    let fold = (noise.fractal(x * 6 + 3, y * 6 + 41) - 0.5) * 0.30
    let ring = (x * x / 0.22 + (y - 0.23) * (y - 0.23) / 0.15).squareRoot() + fold
    let leaf = noise.value(ring * 24, x * 3)
    let folia = mix(tissue.gray * 0.85, tissue.white, leaf)
    value = mix(value, folia, cerebellum)
    let tent = Self.ellipse(x, y - 0.43, 0.415, 0.265) - Self.ellipse(x, y - 0.43, 0.395, 0.245)
    value = mix(value, tissue.scalp * 0.75, max(tent, 0) * smoothStep(0.62, 0.40, y) * 0.6)
    value = mix(value, tissue.fluid, Self.ellipse(x, y - 0.27, 0.045, 0.03))
    // The brain stem in its cistern; before it, the one that the lesion rises into.
    let cistern = max(
      Self.ellipse(x, y - 0.09, 0.18, 0.145), Self.ellipse(x, y + 0.09, 0.15, 0.11))
    value = mix(value, tissue.fluid, cistern)
    // Its two feet diverge forwards.
    let stem = max(
      Self.ellipse(mirrored - 0.055, y - 0.07, 0.055, 0.095, tilt: 0.25),
      Self.ellipse(x, y - 0.13, 0.12, 0.095))
    return mix(value, tissue.white * 0.98, stem)
  }
}
