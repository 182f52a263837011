import Base
import Logging
import TestSupport
import Testing

@testable import DaemonSupport

@Suite struct LogTests {
  private func lines(
    journal: Bool = false, _ body: (inout Logger) -> Void
  ) -> [String] {
    let captured = Locked<[String]>([])
    var logger = Logger(label: "t") { _ in
      LineLogHandler(
        logLevel: .info, forJournal: journal,
        clock: ManualClock(wallMilliseconds: 1_700_000_000_007)
      ) { line in captured.withLock { $0.append(line) } }
    }
    body(&logger)
    return captured.withLock { $0 }
  }

  @Test func oneAlignedLineARecord() {
    let found = lines { logger in
      logger.debug("unseen")
      logger.info("serving", metadata: ["port": "7400", "address": "a b", "empty": ""])
      logger[metadataKey: "peer"] = "10.0.0.1:99"
      logger.warning("closed", metadata: ["reason": "said \"no\" = \\"])
    }
    #expect(
      found == [
        "2023-11-14T22:13:20.007Z info     serving address=\"a b\" empty=\"\" port=7400\n",
        "2023-11-14T22:13:20.007Z warning  closed peer=10.0.0.1:99 "
          + "reason=\"said \\\"no\\\" = \\\\\"\n",
      ])
  }

  @Test func journaldGetsPriorities() {
    let found = lines(journal: true) { logger in
      logger.info("a")
      logger.notice("b")
      logger.warning("c")
      logger.error("d")
      logger.critical("e")
    }
    #expect(found == ["<6>a\n", "<5>b\n", "<4>c\n", "<3>d\n", "<2>e\n"])
  }

  @Test func nobodyForgesALine() {
    let hostile = "x\n2023 info forged\u{1b}[31m\u{2028}\u{202e}"
    let found = lines { logger in
      logger.info("m\(hostile)", metadata: ["k": "\(hostile)", "a\nb": "1"])
    }
    #expect(found.count == 1)
    #expect(found[0].filter { $0.isNewline }.count == 1)
    #expect(!found[0].contains("\u{1b}"))
    #expect(!found[0].unicodeScalars.contains("\u{202e}"))
    let long = lines { $0.info("m", metadata: ["k": "\(String(repeating: "y", count: 9999))"]) }
    #expect(long[0].count < 600)
  }

  @Test func secretsStayHidden() {
    let secret = SecretBytes(Array("hunter2hunter2".utf8))
    let found = lines { logger in
      logger.info("key \(secret)", metadata: ["key": "\(secret)", "token": "hunter2"])
    }
    #expect(!found[0].contains("hunter2"))
    #expect(found[0].contains("token=<hidden>"))
  }
}
