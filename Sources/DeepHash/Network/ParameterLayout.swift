/// Where each parameter of a network lies in one flat vector.
///
/// One vector for all parameters is what optimizers, gradients and federated averaging work on: each
/// of them is then a loop over numbers that need not know the architecture. The order is that of the
/// forward pass, and the names are those of timm's ConvNeXt.
public struct ParameterLayout: Sendable, Equatable {
  /// One parameter tensor.
  public struct Entry: Sendable, Equatable {
    public let name: String
    /// Extent of each dimension, the slowest first, as in timm: convolutions are [out][in][y][x].
    public let shape: [Int]
    /// Where its elements lie in the flat vector, in row-major order.
    public let range: Range<Int>
  }

  public let entries: [Entry]
  /// Length of the flat vector.
  public let parameterCount: Int

  private let indexByName: [String: Int]

  public init(_ configuration: ConvNeXtConfiguration) {
    var entries: [Entry] = []
    var end = 0
    func add(_ name: String, _ shape: [Int]) {
      let count = shape.reduce(1, *)
      entries.append(Entry(name: name, shape: shape, range: end..<end + count))
      end += count
    }
    func addLayer(_ name: String, weight: [Int], bias: Int) {
      add("\(name).weight", weight)
      add("\(name).bias", [bias])
    }
    let dims = configuration.dims
    addLayer("stem.0", weight: [dims[0], configuration.channels, 4, 4], bias: dims[0])
    addLayer("stem.1", weight: [dims[0]], bias: dims[0])
    for stage in dims.indices {
      let width = dims[stage]
      if stage > 0 {
        let previous = dims[stage - 1]
        addLayer("stages.\(stage).downsample.0", weight: [previous], bias: previous)
        addLayer("stages.\(stage).downsample.1", weight: [width, previous, 2, 2], bias: width)
      }
      for block in 0..<configuration.depths[stage] {
        let name = "stages.\(stage).blocks.\(block)"
        addLayer("\(name).conv_dw", weight: [width, 1, 7, 7], bias: width)
        addLayer("\(name).norm", weight: [width], bias: width)
        addLayer("\(name).mlp.fc1", weight: [4 * width, width], bias: 4 * width)
        addLayer("\(name).mlp.fc2", weight: [width, 4 * width], bias: width)
        add("\(name).gamma", [width])
      }
    }
    let last = dims[dims.count - 1]
    addLayer("head.norm", weight: [last], bias: last)
    addLayer("head.fc", weight: [configuration.bits, last], bias: configuration.bits)
    self.entries = entries
    self.parameterCount = end
    self.indexByName = Dictionary(
      uniqueKeysWithValues: entries.indices.map { (entries[$0].name, $0) })
  }

  /// The parameter of that name, if the network has it.
  public func entry(named name: String) -> Entry? {
    indexByName[name].map { entries[$0] }
  }
}
