extension PhantomAnatomy {
  /// Brightness, 0...1, of what a synthetic slice is made of, as in a T1-weighted picture.
  struct Tissue {
    var scalp: Double
    /// As a fraction of the head's radius.
    var scalpThickness: Double
    var bone: Double
    var marrow: Double
    var fluid: Double
    var gray: Double
    var white: Double
    /// How dark furrows are: 0 as the brain, 1 as fluid.
    var furrowDepth: Double

    init(_ shown: PhantomClass, _ random: inout SplitMix64) {
      let contrast = random.uniform(0.92...1.08)
      switch shown {
      case .noLesion:
        scalp = random.uniform(0.66...0.80)
        scalpThickness = 0.048
        bone = random.uniform(0.05...0.09)
        marrow = 0.22
        fluid = random.uniform(0.10...0.15)
        gray = 0.36 * contrast
        white = 0.56 * contrast
        furrowDepth = 0.9
      case .ringLesion:
        scalp = random.uniform(0.50...0.60)
        scalpThickness = 0.060
        bone = random.uniform(0.03...0.05)
        marrow = 0.10
        fluid = random.uniform(0.07...0.10)
        gray = 0.205 * contrast
        white = 0.235 * contrast
        furrowDepth = 0.45
      case .roundLesion, .midlineLesion:
        scalp = random.uniform(0.60...0.70)
        scalpThickness = 0.072
        bone = random.uniform(0.03...0.05)
        marrow = 0.12
        fluid = random.uniform(0.07...0.11)
        gray = 0.25 * contrast
        white = 0.30 * contrast
        furrowDepth = 0.65
      }
    }
  }
}
