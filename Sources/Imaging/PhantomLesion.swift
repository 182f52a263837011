extension PhantomAnatomy {
  /// Where a synthetic slice's lesion lies, in the head's coordinates, and how bright it is; the radius is 0 where
  /// there is none.
  struct Lesion {
    var x: Double
    var y: Double
    var radius: Double
    var brightness: Double

    init(_ shown: PhantomClass, _ random: inout SplitMix64) {
      let side: Double = random.next() & 1 == 0 ? -1 : 1
      switch shown {
      case .roundLesion:
        // Its far side touches the inside of the skull.
        radius = random.uniform(0.13...0.18)
        y = random.uniform(-0.56 ... -0.36)
        let (u, reach) = ((y + 0.25) / 0.68, PhantomAnatomy.innerTable)
        x = (0.60 * (reach * reach - u * u).squareRoot() - radius * 0.80) * side
        brightness = random.uniform(0.56...0.66)
      case .ringLesion:
        x = side * random.uniform(0.25...0.32)
        y = random.uniform(-0.20...0.20)
        radius = random.uniform(0.15...0.20)
        brightness = random.uniform(0.46...0.56)
      case .midlineLesion:
        x = random.uniform(-0.015...0.015)
        y = random.uniform(-0.16 ... -0.11)
        radius = random.uniform(0.085...0.115)
        brightness = random.uniform(0.52...0.62)
      case .noLesion:
        (x, y, radius, brightness) = (0, 0, 0, 0)
      }
    }
  }

  func addLesion(to place: Place, _ x: Double, _ y: Double) -> Double {
    guard lesion.radius > 0 else { return place.value }
    let (dx, dy) = (x - lesion.x, y - lesion.y)
    let distance = (dx * dx + dy * dy).squareRoot()
    guard distance < lesion.radius * 4 else { return place.value }
    return shown == .ringLesion
      ? addRing(to: place, x, y, distance: distance) : addMass(to: place, x, y, distance: distance)
  }

  private func addMass(
    to place: Place, _ x: Double, _ y: Double, distance: Double
  ) -> Double {
    let texture = (noise.fractal(x * 14 + 61, y * 14 + 13) - 0.5) * 0.16
    let edge = lesion.radius * (1 + (noise.value(x * 6 + 71, y * 6 + 37) - 0.5) * 0.22)
    // A thin dark cleft separates the mass from the brain.
    let cleft = smoothStep(edge + 0.03, edge + 0.012, distance) * place.insideSkull
    let mass = smoothStep(edge + 0.008, edge - 0.008, distance) * place.insideSkull
    return mix(
      mix(place.value, tissue.fluid * 1.3, cleft * 0.6), lesion.brightness + texture, mass)
  }

  private func addRing(
    to place: Place, _ x: Double, _ y: Double, distance: Double
  ) -> Double {
    let texture = (noise.fractal(x * 12 + 61, y * 12 + 13) - 0.5) * 0.16
    let ragged = (noise.fractal(x * 6 + 83, y * 6 + 19) - 0.5) * 0.95
    let reach = distance / lesion.radius * (1 + ragged)
    // From the outside: swelling that spreads in fingers, the bright rim, the dark core.
    let fingers = 1.75 + (noise.fractal(x * 4 + 7, y * 4 + 97) - 0.5) * 1.1
    let swelling = smoothStep(fingers + 0.12, fingers - 0.25, reach) * place.insideSkull
    let rim = smoothStep(1.06, 0.94, reach) * place.insideSkull
    let wall = 0.14 + 0.26 * noise.value(x * 9 + 31, y * 9 + 77)
    let core = smoothStep(1.04 - wall, 0.90 - wall, reach)
    var result = mix(place.value, tissue.gray * 0.66, swelling * 0.85)
    result = mix(result, lesion.brightness + texture, rim)
    return mix(result, tissue.fluid * 1.25 + texture * 0.3, core * place.insideSkull)
  }
}
