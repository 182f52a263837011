import RPC

/// The configuration files of a cluster on one machine.
struct DevConfigurationText {
  let plan: DevPlan
  let folder: DevFolder

  private var keyControl: DevNode { plan.nodes(.keyControl)[0] }
  private var masters: [String] {
    plan.nodes(.master).flatMap { table("masters", $0) }
  }
  private var voters: [String] {
    plan.nodes(.master).count == 1
      ? [] : masters + plan.nodes(.witness).flatMap { table("witness", $0) }
  }

  private func table(_ name: String, _ node: DevNode) -> [String] {
    [
      "", "[[\(name)]]", "node = \(quoted(node.name))",
      "address = \(quoted("\(node.address)"))",
    ]
  }

  /// `DIR/config/NODE.toml`
  func daemon(_ node: DevNode) -> String {
    var lines = [
      "# \(node.name) of the cluster in \(printable(folder.path)); written anew by 'sfmedir dev up'.",
      "cluster = \(quoted(DevPlan.cluster))",
      "node = \(quoted(node.name))",
      "listen = \(quoted("\(node.address)"))",
      "state_directory = \(quoted(folder.state(node.name)))",
      "shutdown_grace_seconds = \(Self.graceSeconds)",
    ]
    if node.role != .keyControl {
      lines.append("key_control = \(quoted("\(keyControl.address)"))")
      lines.append("join_file = \(quoted(folder.joinFile(node.name)))")
    }
    switch node.role {
    case .keyControl: lines.append("seal_key_file = \(quoted(folder.sealKeyFile))")
    case .master: lines += masterLines + voters
    case .witness: lines += voters
    case .imageOwner, .imageUser:
      lines.append("model = \(quoted(plan.modelPath))")
      lines += masters
    case .slave: lines.append("reserve_free_mib = \(Self.reserveMebibytes)")
    case .operatorTool: break
    }
    return lines.joined(separator: "\n") + "\n"
  }

  static let graceSeconds = 5
  private static let fewSlaves = 4
  /// All slaves share this machine's disk, which has other uses.
  private static let reserveMebibytes = 64

  private var masterLines: [String] {
    let slaves = plan.nodes(.slave)
    var lines: [String] = []
    if plan.sharing.threshold > 0 {
      lines.append("fixed_threshold = \(plan.sharing.threshold)")
      lines.append("fixed_shadows = \(plan.sharing.shadows)")
    }
    if let spare = plan.care.spareSlaves {
      lines.append("spare_slaves = \(spare)")
    } else if slaves.count <= Self.fewSlaves || plan.sharing.shadows == slaves.count {
      // Few slaves: without this, an upload while one of them is down would find too few.
      lines.append("spare_slaves = 0")
    }
    if let tolerance = plan.care.tolerance { lines.append("minimum_tolerance = \(tolerance)") }
    if let seconds = plan.care.repairAfterSeconds {
      lines.append("repair_after_seconds = \(seconds)")
    }
    if plan.care.isOff { lines.append("care = false") }
    return lines + slaves.flatMap { table("slaves", $0) }
  }

  /// `DIR/cli.toml` for number 1, `DIR/cli-2.toml` for the second owner and user, and so on.
  func client(_ number: Int) -> String {
    let owners = plan.nodes(.imageOwner)
    let users = plan.nodes(.imageUser)
    let lines =
      [
        "# The command line's settings for the cluster in \(printable(folder.path)).",
        "cluster = \(quoted(DevPlan.cluster))",
        "node = \(quoted(DevPlan.operatorNode))",
        "state_directory = \(quoted(folder.state(DevPlan.operatorNode)))",
        "join_file = \(quoted(folder.joinFile(DevPlan.operatorNode)))",
        "key_control = \(quoted("\(keyControl.address)"))",
        "image_owner = \(quoted("\(owners[min(number, owners.count) - 1].address)"))",
        "image_user = \(quoted("\(users[min(number, users.count) - 1].address)"))",
      ] + masters
    return lines.joined(separator: "\n") + "\n"
  }

  /// A TOML basic string.
  private func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case _ where scalar.value < 0x20 || scalar.value == 0x7F:
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}
