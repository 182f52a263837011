import RPC

/// The typed getters, the same for a file and for a table inside it.
///
/// Without a default the key is required. Every getter marks its key as known.
public protocol ConfigurationSection {
  var scope: ConfigurationScope { get }
}

extension ConfigurationSection {
  public func has(_ key: String) -> Bool { scope.values[key] != nil }

  public func string(
    _ key: String, default fallback: String? = nil
  ) throws(ConfigurationError) -> String {
    let text = try required(key, optionalString(key) ?? fallback)
    guard !text.isEmpty else { throw invalid(key, "is empty") }
    return text
  }

  public func optionalString(_ key: String) throws(ConfigurationError) -> String? {
    guard let value = scope.take(key) else { return nil }
    guard case .string(let text) = value else { throw wrongType(key, "a text in quotes", value) }
    return text
  }

  /// - Parameter range: what is allowed, both ends included.
  public func integer(
    _ key: String, default fallback: Int? = nil, in range: ClosedRange<Int> = 0...Int.max
  ) throws(ConfigurationError) -> Int {
    var given = fallback
    if let value = scope.take(key) {
      guard case .integer(let number) = value else { throw wrongType(key, "an integer", value) }
      given = number
    }
    let number = try required(key, given)
    guard range.contains(number) else {
      let bounds =
        range.upperBound == Int.max
        ? "at least \(range.lowerBound)" : "\(range.lowerBound) to \(range.upperBound)"
      throw invalid(key, "is \(number); allowed is \(bounds)")
    }
    return number
  }

  public func boolean(
    _ key: String, default fallback: Bool? = nil
  ) throws(ConfigurationError) -> Bool {
    var given = fallback
    if let value = scope.take(key) {
      guard case .boolean(let flag) = value else { throw wrongType(key, "true or false", value) }
      given = flag
    }
    return try required(key, given)
  }

  /// "host:port"
  public func address(
    _ key: String, default fallback: Address? = nil
  ) throws(ConfigurationError) -> Address {
    try required(key, optionalAddress(key) ?? fallback)
  }

  public func optionalAddress(_ key: String) throws(ConfigurationError) -> Address? {
    guard let text = try optionalString(key) else { return nil }
    guard let address = Address(text) else {
      throw invalid(key, "is '\(text)', which is not \"host:port\"")
    }
    return address
  }

  /// A cluster's or node's name.
  public func name(
    _ key: String, default fallback: String? = nil
  ) throws(ConfigurationError) -> String {
    try required(key, optionalName(key) ?? fallback)
  }

  public func optionalName(_ key: String) throws(ConfigurationError) -> String? {
    guard let text = try optionalString(key) else { return nil }
    guard Identity.isName(text) else {
      throw invalid(
        key, "is '\(text)'; a name is 1 to 63 of a-z, 0-9 and hyphens, no hyphen at its ends")
    }
    return text
  }

  /// A path; it has to be absolute, because daemons and people start from different folders.
  public func absolutePath(
    _ key: String, default fallback: String? = nil
  ) throws(ConfigurationError) -> String {
    try required(key, optionalAbsolutePath(key) ?? fallback)
  }

  public func optionalAbsolutePath(_ key: String) throws(ConfigurationError) -> String? {
    guard let text = try optionalString(key) else { return nil }
    guard text.hasPrefix("/") else {
      throw invalid(key, "is '\(text)'; the path has to begin with /")
    }
    return text
  }

  /// One of a few words.
  public func choice<Choice: RawRepresentable & CaseIterable>(
    _ key: String, default fallback: Choice? = nil
  ) throws(ConfigurationError) -> Choice where Choice.RawValue == String {
    guard let text = try optionalString(key) else { return try required(key, fallback) }
    guard let choice = Choice(rawValue: text) else {
      let words = Choice.allCases.map(\.rawValue).joined(separator: ", ")
      throw invalid(key, "is '\(text)'; allowed is one of \(words)")
    }
    return choice
  }

  /// The table `[key]`; an empty one where there is no such key, so that its settings have their defaults.
  public func table(_ key: String) throws(ConfigurationError) -> ConfigurationTable {
    guard let value = scope.take(key) else {
      return ConfigurationTable(scope: scope.inner(key, [:]))
    }
    guard case .table(let table) = value else { throw wrongType(key, "a table, [\(key)]", value) }
    return ConfigurationTable(scope: scope.inner(key, table))
  }

  /// The masters: `[[masters]]` with `node` and `address` each, or one address as `master`; empty where there is neither.
  public func masters() throws(ConfigurationError) -> [ServiceClient.Endpoint] {
    var masters: [ServiceClient.Endpoint] = []
    for table in try tables("masters") {
      let node = try table.name("node")
      guard !masters.contains(where: { $0.node == node }) else {
        throw invalid("masters", "node '\(node)' stands there twice")
      }
      masters.append(.init(try table.address("address"), node: node))
    }
    guard let single = try optionalAddress("master") else { return masters }
    guard masters.isEmpty else {
      throw invalid("master", "stands beside [[masters]]: leave one out")
    }
    return [.init(single)]
  }

  /// The tables of `[[key]]`; none where there is no such key.
  public func tables(_ key: String) throws(ConfigurationError) -> [ConfigurationTable] {
    guard let value = scope.take(key) else { return [] }
    guard case .array(let elements) = value else {
      throw wrongType(key, "a list of tables, [[\(key)]]", value)
    }
    var tables: [ConfigurationTable] = []
    for (index, element) in elements.enumerated() {
      guard case .table(let table) = element else {
        throw wrongType("\(key)[\(index)]", "a table, [[\(key)]]", element)
      }
      tables.append(ConfigurationTable(scope: scope.inner("\(key)[\(index)]", table)))
    }
    return tables
  }

  /// For checks that concern more than one key.
  public func invalid(_ key: String, _ reason: String) -> ConfigurationError {
    .invalid(
      path: scope.path, key: scope.prefix + key, line: scope.record.line(of: key), reason: reason)
  }

  private func wrongType(
    _ key: String, _ wanted: String, _ found: ConfigurationValue
  ) -> ConfigurationError {
    .wrongType(
      path: scope.path, key: scope.prefix + key, line: scope.record.line(of: key),
      wanted: wanted, found: found.typeName)
  }

  private func required<Value>(_ key: String, _ value: Value?) throws(ConfigurationError) -> Value {
    guard let value else { throw .missing(path: scope.path, key: scope.prefix + key) }
    return value
  }
}
