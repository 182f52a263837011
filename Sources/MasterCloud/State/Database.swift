import CSQLite

/// SQLite refused; for a master that is a fault of the machine or our bug, never of a client.
struct DatabaseError: Error, Equatable, CustomStringConvertible {
  let code: Int32
  let description: String
}

/// A value bound to or read from a statement.
enum DatabaseValue: Equatable {
  case integer(Int64)
  case text(String)
  case blob([UInt8])
}

/// One SQLite connection with its prepared statements; confined to the thread of ``ClusterState``.
final class Database {
  private var connection: OpaquePointer?
  private var statements: [String: OpaquePointer] = [:]

  /// Opens or creates the file, in write-ahead mode.
  ///
  /// A commit is not synchronized by itself: the replicated log is, and is replayed from the applied
  /// index that every transaction carries.
  init(path: String) throws(DatabaseError) {
    let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX
    guard sqlite3_open_v2(path, &connection, flags, nil) == SQLITE_OK else {
      let error = failure("open \(path)")
      sqlite3_close_v2(connection)
      connection = nil
      throw error
    }
    // Somebody may look at the file with a tool of their own; that must not stop a master.
    sqlite3_busy_timeout(connection, 10_000)
    try execute("PRAGMA journal_mode = WAL")
    try execute("PRAGMA synchronous = NORMAL")
    // Deleting an image's record shreds its wrapped key: the bytes must not stay in free pages.
    try execute("PRAGMA secure_delete = ON")
    // Many changes go into one transaction, which must not be written out before its end.
    try execute("PRAGMA cache_size = -65536")
    // Written back when the log asks for it: a checkpoint in the middle would hold up a commit.
    try execute("PRAGMA wal_autocheckpoint = 0")
  }

  deinit {
    for statement in statements.values { sqlite3_finalize(statement) }
    sqlite3_close_v2(connection)
  }

  private func failure(_ what: String) -> DatabaseError {
    let text = connection.map { String(cString: sqlite3_errmsg($0)) } ?? "out of memory"
    return DatabaseError(
      code: connection.map { sqlite3_extended_errcode($0) } ?? SQLITE_NOMEM,
      description: "SQLite: \(what): \(text)")
  }

  /// What a transaction that lasts held is gone: nothing may be read from what is left, nor changed on top of it.
  private var lossOfTransaction: DatabaseError?

  /// Fails the statement, and, where SQLite has given up the transaction over it, every later one.
  private func failed(_ sql: String) -> DatabaseError {
    let error = failure(sql)
    if isInTransaction, sqlite3_get_autocommit(connection) != 0 { lossOfTransaction = error }
    return error
  }

  /// Statements without results or values.
  func execute(_ sql: String) throws(DatabaseError) {
    if let lossOfTransaction { throw lossOfTransaction }
    guard sqlite3_exec(connection, sql, nil, nil, nil) == SQLITE_OK else { throw failed(sql) }
  }

  /// Runs one statement and gives each row to `row`.
  func query(
    _ sql: String, _ values: [DatabaseValue] = [],
    _ row: (Row) throws(DatabaseError) -> Void = { (_) throws(DatabaseError) in }
  ) throws(DatabaseError) {
    if let lossOfTransaction { throw lossOfTransaction }
    let statement = try prepared(sql)
    defer {
      sqlite3_reset(statement)
      sqlite3_clear_bindings(statement)
    }
    for (index, value) in values.enumerated() {
      let position = Int32(index + 1)
      let bound =
        switch value {
        case .integer(let number): sqlite3_bind_int64(statement, position, number)
        case .text(let text):
          sfm_sqlite_bind_text(statement, position, text, Int32(text.utf8.count))
        case .blob(let bytes):
          sfm_sqlite_bind_blob(statement, position, bytes, Int32(bytes.count))
        }
      guard bound == SQLITE_OK else { throw failure(sql) }
    }
    while true {
      switch sqlite3_step(statement) {
      case SQLITE_ROW: try row(Row(statement: statement))
      case SQLITE_DONE: return
      default: throw failed(sql)
      }
    }
  }

  /// Rows changed by the last statement.
  var changes: Int { Int(sqlite3_changes(connection)) }

  private(set) var isInTransaction = false

  /// Begins a transaction that lasts until ``commit()``, unless there is one.
  func begin() throws(DatabaseError) {
    guard !isInTransaction else { return }
    try execute("BEGIN IMMEDIATE")
    isInTransaction = true
  }

  func commit() throws(DatabaseError) {
    if let lossOfTransaction { throw lossOfTransaction }
    guard isInTransaction else { return }
    do throws(DatabaseError) { try execute("COMMIT") } catch {
      giveUp(error)
      throw error
    }
    isInTransaction = false
  }

  /// Takes back what the transaction that lasts held, for good.
  func giveUp(_ error: DatabaseError) {
    // Some failures have done so by themselves.
    sqlite3_exec(connection, "ROLLBACK", nil, nil, nil)
    lossOfTransaction = lossOfTransaction ?? error
  }

  /// All or nothing.
  func transaction<Result>(
    _ body: () throws(DatabaseError) -> Result
  ) throws(DatabaseError) -> Result {
    try execute("BEGIN IMMEDIATE")
    do {
      let result = try body()
      try execute("COMMIT")
      return result
    } catch {
      // The first error is the one to report.
      try? execute("ROLLBACK")
      throw error
    }
  }

  private func prepared(_ sql: String) throws(DatabaseError) -> OpaquePointer {
    if let known = statements[sql] { return known }
    var statement: OpaquePointer?
    guard sqlite3_prepare_v2(connection, sql, -1, &statement, nil) == SQLITE_OK, let statement
    else { throw failure(sql) }
    statements[sql] = statement
    return statement
  }

  /// The current row of a statement; valid inside the closure that got it.
  struct Row {
    let statement: OpaquePointer

    func integer(_ column: Int32) -> Int64 { sqlite3_column_int64(statement, column) }

    func text(_ column: Int32) -> String {
      sqlite3_column_text(statement, column).map { String(cString: $0) } ?? ""
    }

    func blob(_ column: Int32) -> [UInt8] {
      let count = Int(sqlite3_column_bytes(statement, column))
      guard count > 0, let start = sqlite3_column_blob(statement, column) else { return [] }
      return [UInt8](UnsafeRawBufferPointer(start: start, count: count))
    }
  }
}
