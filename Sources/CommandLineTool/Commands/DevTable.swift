import Base

/// A moment on this machine's monotonic clock.
struct Deadline {
  let nanoseconds: UInt64

  init(seconds: Int) {
    nanoseconds = SystemClock().monotonicNanoseconds() + UInt64(seconds) * 1_000_000_000
  }
}

/// How `dev` shows its daemons.
enum DevTable {
  /// Every node's health, asked at once.
  static func examine(_ cluster: DevCluster) async -> [(DevNode, DevHealth)] {
    let readiness = try? await cluster.readiness()
    return await withTaskGroup(of: (Int, DevHealth).self) { group in
      for (index, node) in cluster.plan.nodes.enumerated() {
        group.addTask {
          if cluster.processes.running(node) == nil { return (index, .stopped) }
          guard let readiness else {
            return (index, .silent("there is no operator's identity to ask with"))
          }
          return (index, await readiness.health(of: node, timeout: .seconds(5)))
        }
      }
      var healths = [DevHealth](repeating: .stopped, count: cluster.plan.nodes.count)
      for await (index, health) in group { healths[index] = health }
      return Array(zip(cluster.plan.nodes, healths))
    }
  }

  static func show(
    _ rows: [(DevNode, DevHealth)], _ cluster: DevCluster, to output: Output
  ) {
    var table = Table([
      .init("node"), .init("role"), .init("pid", .right), .init("address"), .init("state"),
    ])
    for (node, health) in rows {
      let pid = cluster.processes.running(node)?.pid
      table.add([
        node.name, node.role.rawValue, pid.map { "\($0)" } ?? "-", "\(node.address)",
        health.text,
      ])
      var line: JSONObject = [
        "type": "node", "node": .string(node.name), "role": .string(node.role.rawValue),
        "pid": pid.map { JSONValue($0) } ?? .null, "address": .string("\(node.address)"),
        "state": .string(health.name), "log": .string(cluster.folder.log(node.name)),
      ]
      switch health {
      case .problem(let problem), .silent(let problem): line["problem"] = .string(problem)
      case .ok, .stopped: break
      }
      output.emit(line)
    }
    output.print(table)
  }
}
