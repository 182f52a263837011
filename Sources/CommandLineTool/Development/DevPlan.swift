import RPC

/// A daemon of a cluster on one machine.
public struct DevNode: Sendable, Equatable {
  public let name: String
  public let role: Role
  public let port: UInt16

  public var address: Address { Address(host: "127.0.0.1", port: port) }
  /// The witness is a master's program that was told to be one.
  public var executableName: String {
    role == .witness ? "sfmedir-mcs" : "sfmedir-\(role.rawValue)"
  }

  public var arguments: [String] { role == .witness ? ["--witness"] : [] }
}

/// How many slaves share an image, and how many of them give it back.
public struct DevSharing: Sendable, Equatable {
  /// Both 0: drawn anew for each image.
  public var threshold = 0
  public var shadows = 0

  public init() {}

  public var description: String {
    threshold == 0 ? "random per image" : "r = \(threshold), s = \(shadows)"
  }
}

/// How many losses images survive and how the master cares for lost shadows; nil: as a master does that is told nothing.
public struct DevCare: Sendable, Equatable {
  public var repairAfterSeconds: Int?
  public var spareSlaves: Int?
  /// Smallest s - r.
  public var tolerance: Int?
  public var isOff = false

  public init() {}
}

/// Which daemons a cluster on one machine has; what `DIR/cluster.json` keeps.
public struct DevPlan: Sendable, Equatable {
  public static let cluster = "dev"
  public static let operatorNode = "operator-1"
  static let format: Int64 = 1

  public var nodes: [DevNode]
  public var sharing = DevSharing()
  public var care = DevCare()
  public var modelPath: String
  /// The key control entity has made its keys.
  public var isInitialised = false

  /// Names of the daemons in the order in which they start; each needs those before it.
  public static func names(
    slaves: Int, owners: Int, users: Int, masters: Int = usualMasters
  ) -> [(name: String, role: Role)] {
    var names: [(String, Role)] = [("kce-1", .keyControl)]
    names += (1...slaves).map { ("scs-\($0)", .slave) }
    // Two masters need a third voter; it comes first, as it is needed by both.
    if masters == 2 { names.append(("witness-1", .witness)) }
    names += (1...masters).map { ("mcs-\($0)", .master) }
    names += (1...owners).map { ("mo-\($0)", .imageOwner) }
    names += (1...users).map { ("mu-\($0)", .imageUser) }
    return names
  }

  /// Two masters and a witness survive the loss of any one of them.
  public static let usualMasters = 2

  /// Fewest slaves: two that give an image back, one more that may be lost.
  public static let fewestSlaves = 3

  public func nodes(_ role: Role) -> [DevNode] { nodes.filter { $0.role == role } }

  public func node(_ name: String) -> DevNode? { nodes.first { $0.name == name } }

  /// Owners and users first: nobody stores any more when the slaves go.
  public var stopOrder: [[DevNode]] {
    [[.imageOwner, .imageUser], [.master], [.witness], [.slave], [.keyControl]].map { roles in
      nodes.filter { roles.contains($0.role) }
    }
  }

  // MARK: DIR/cluster.json

  public var json: JSONObject {
    [
      "format": .integer(Self.format), "cluster": .string(Self.cluster),
      "model": .string(modelPath), "threshold": JSONValue(sharing.threshold),
      "shadows": JSONValue(sharing.shadows), "initialised": .bool(isInitialised),
      "repair_after_seconds": care.repairAfterSeconds.map { JSONValue($0) } ?? .null,
      "spare_slaves": care.spareSlaves.map { JSONValue($0) } ?? .null,
      "tolerance": care.tolerance.map { JSONValue($0) } ?? .null,
      "care_off": .bool(care.isOff),
      "nodes": .array(
        nodes.map { node in
          .object([
            "node": .string(node.name), "role": .string(node.role.rawValue),
            "port": JSONValue(node.port),
          ])
        }),
    ]
  }

  public init(nodes: [DevNode], modelPath: String) {
    self.nodes = nodes
    self.modelPath = modelPath
  }

  /// Nil where the object is not such a plan.
  public init?(_ object: JSONObject) {
    guard object.integer("format") == Self.format, let model = object.string("model"),
      let threshold = object.integer("threshold"), let shadows = object.integer("shadows"),
      let initialised = object.bool("initialised"), let list = object.objects("nodes")
    else { return nil }
    var nodes: [DevNode] = []
    for entry in list {
      guard let name = entry.string("node"), Identity.isName(name),
        let role = entry.string("role").flatMap(Role.init(rawValue:)),
        let port = entry.integer("port").flatMap(UInt16.init(exactly:)), port > 0
      else { return nil }
      nodes.append(DevNode(name: name, role: role, port: port))
    }
    self.init(nodes: nodes, modelPath: model)
    sharing.threshold = Int(threshold)
    sharing.shadows = Int(shadows)
    isInitialised = initialised
    // A plan of an older version does not say.
    care.repairAfterSeconds = object.integer("repair_after_seconds").map(Int.init(clamping:))
    care.spareSlaves = object.integer("spare_slaves").map(Int.init(clamping:))
    care.tolerance = object.integer("tolerance").map(Int.init(clamping:))
    care.isOff = object.bool("care_off") ?? false
  }
}
