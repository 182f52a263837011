import Messages

/// The tables of ``StateMachine``, and the way from those of earlier versions.
struct StateSchema {
  private let database: Database

  /// Version of the tables below; later ones are refused at the start, earlier ones are brought up to it.
  static let version: Int64 = 3

  init(_ database: Database) { self.database = database }

  func prepare() throws(DatabaseError) {
    try database.transaction { () throws(DatabaseError) in
      try database.execute(
        "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL)")
      switch try database.meta("format_version") {
      case 0:
        try database.execute(Self.first)
        try bringFromFirst()
        try database.execute(Self.third)
      case 1:
        try bringFromFirst()
        try database.execute(Self.third)
      case 2: try database.execute(Self.third)
      case Self.version: return
      case let found:
        throw DatabaseError(
          code: 0,
          description: "state of format version \(found), this program knows \(Self.version)")
      }
      try database.setMeta("format_version", Self.version)
    }
  }

  private static let first = """
    CREATE TABLE images (
      image_id BLOB PRIMARY KEY, owner TEXT NOT NULL, epoch INTEGER NOT NULL,
      record BLOB NOT NULL, encrypted_threshold BLOB NOT NULL, scheme TEXT NOT NULL,
      sealed_bytes INTEGER NOT NULL
    ) WITHOUT ROWID;
    -- The last epoch ever begun: it outlives the image, so that no shadow name is bound twice.
    CREATE TABLE epochs (image_id BLOB PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE uploads (
      image_id BLOB NOT NULL, epoch INTEGER NOT NULL, begun_at INTEGER NOT NULL,
      PRIMARY KEY (image_id, epoch)
    ) WITHOUT ROWID;
    CREATE TABLE placements (
      image_id BLOB NOT NULL, epoch INTEGER NOT NULL, shadow INTEGER NOT NULL,
      slave TEXT NOT NULL, name BLOB NOT NULL, digest BLOB NOT NULL,
      PRIMARY KEY (image_id, epoch, shadow)
    ) WITHOUT ROWID;
    CREATE TABLE garbage (
      slave TEXT NOT NULL, name BLOB NOT NULL, PRIMARY KEY (slave, name)
    ) WITHOUT ROWID;
    """

  /// Version 3: several masters; where the log stood, beside the index in `meta`.
  private static let third = """
    CREATE TABLE consensus (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    -- What requests that may be repeated were answered, for as long as somebody may still repeat them.
    CREATE TABLE requests (
      client BLOB NOT NULL, sequence INTEGER NOT NULL, applied_index INTEGER NOT NULL,
      outcome BLOB NOT NULL, PRIMARY KEY (client, sequence)
    ) WITHOUT ROWID;
    CREATE INDEX requests_by_index ON requests (applied_index);
    """

  /// Version 2: shadows move, slaves have conditions, owners have quotas.
  private func bringFromFirst() throws(DatabaseError) {
    try database.execute(
      """
      ALTER TABLE uploads ADD COLUMN owner TEXT NOT NULL DEFAULT '';
      ALTER TABLE uploads ADD COLUMN sealed_bytes INTEGER NOT NULL DEFAULT 0;
      CREATE INDEX placements_by_slave ON placements (slave, name);
      -- Which shadow it was: until it is swept, its slave gets no other of that image.
      ALTER TABLE garbage ADD COLUMN image_id BLOB NOT NULL DEFAULT x'';
      ALTER TABLE garbage ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
      ALTER TABLE garbage ADD COLUMN shadow INTEGER NOT NULL DEFAULT 0;
      CREATE INDEX garbage_by_image ON garbage (image_id, epoch);
      CREATE TABLE moves (
        image_id BLOB NOT NULL, epoch INTEGER NOT NULL, shadow INTEGER NOT NULL,
        slave TEXT NOT NULL, name BLOB NOT NULL, PRIMARY KEY (image_id, epoch, shadow)
      ) WITHOUT ROWID;
      -- Slaves about which an operator decided something; the others are active.
      CREATE TABLE slaves (
        slave TEXT PRIMARY KEY, condition INTEGER NOT NULL, replacement TEXT NOT NULL
      ) WITHOUT ROWID;
      -- Sums over images, kept up so that nothing has to count; maximum 0 is no bound.
      CREATE TABLE owners (
        owner TEXT PRIMARY KEY, images INTEGER NOT NULL, bytes INTEGER NOT NULL,
        maximum INTEGER NOT NULL
      ) WITHOUT ROWID;
      INSERT INTO owners SELECT owner, count(*), sum(sealed_bytes), 0 FROM images GROUP BY owner;
      INSERT INTO meta SELECT 'shadows', count(*) FROM placements;
      """)
  }
}

extension Database {
  /// A number of the state as a whole; 0 where there is none.
  func meta(_ key: String) throws(DatabaseError) -> Int64 {
    var value: Int64 = 0
    try query("SELECT value FROM meta WHERE key = ?", [.text(key)]) {
      (row) throws(DatabaseError) in value = row.integer(0)
    }
    return value
  }

  func setMeta(_ key: String, _ value: Int64) throws(DatabaseError) {
    try query(
      "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
      [.text(key), .integer(value)])
  }

  /// What the state keeps of the consensus; empty where there is nothing yet.
  func consensus(_ key: String) throws(DatabaseError) -> [UInt8] {
    var value: [UInt8] = []
    try query("SELECT value FROM consensus WHERE key = ?", [.text(key)]) {
      (row) throws(DatabaseError) in value = row.blob(0)
    }
    return value
  }

  func setConsensus(_ key: String, _ value: [UInt8]) throws(DatabaseError) {
    try query(
      "INSERT INTO consensus VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
      [.text(key), .blob(value)])
  }

  func addToMeta(_ key: String, _ value: Int64) throws(DatabaseError) {
    try query(
      """
      INSERT INTO meta VALUES (?, ?)
      ON CONFLICT (key) DO UPDATE SET value = value + excluded.value
      """, [.text(key), .integer(value)])
  }
}
