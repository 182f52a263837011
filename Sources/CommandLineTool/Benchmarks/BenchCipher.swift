import ArgumentParser
import Base
import ImageCipher

/// Sizes at which the kernels are measured: a usual image, and one that leaves every cache.
private let kernelSizes = [512 << 10, 64 << 20]
private let minimumSeconds = 1.0
private let repeats = 5

struct BenchCipherCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "cipher",
    abstract: "Measure the image cipher on one core.",
    discussion: """
      EXAMPLE
        sfmedir bench cipher --json

      JSON: one line with mb_per_second_1_core (the slower of the two directions at 64 MiB), \
      encrypt_mb_per_second, decrypt_mb_per_second (at 64 MiB), sizes (for each size bytes, \
      encrypt_mb_per_second, decrypt_mb_per_second), build, version, date, machine. MB are 10^6 \
      bytes; rates are of the median run, wall-clock.
      """)

  @OptionGroup var outputOptions: OutputOptions

  func execute(_ output: Output) async throws -> ExitStatus {
    BenchContext.warn(output)
    var table = Table([
      .init("size", .right), .init("encrypt MB/s", .right), .init("decrypt MB/s", .right),
    ])
    var sizes: [JSONValue] = []
    var rates = (encrypt: 0.0, decrypt: 0.0)
    for byteCount in kernelSizes {
      rates = try measure(byteCount)
      table.add([
        Units.bytes(UInt64(byteCount)), Units.fixed(rates.encrypt, digits: 1),
        Units.fixed(rates.decrypt, digits: 1),
      ])
      sizes.append(
        .object([
          "bytes": JSONValue(byteCount), "encrypt_mb_per_second": JSONValue(rates.encrypt),
          "decrypt_mb_per_second": JSONValue(rates.decrypt),
        ]))
    }
    var line: JSONObject = [
      "mb_per_second_1_core": JSONValue(min(rates.encrypt, rates.decrypt)),
      "encrypt_mb_per_second": JSONValue(rates.encrypt),
      "decrypt_mb_per_second": JSONValue(rates.decrypt), "sizes": .array(sizes),
    ]
    BenchContext.add(to: &line)
    output.emit(line)
    output.print(table)
    output.print("one core, \(Build.kind) build, \(BenchContext.machine())")
    return .success
  }

  private func measure(_ byteCount: Int) throws -> (encrypt: Double, decrypt: Double) {
    let plaintext = SystemEntropy().bytes(byteCount)
    let key = SecretBytes(randomCount: QMS1.keyBytes, entropy: SystemEntropy())
    var container: [UInt8] = []
    let encrypt = RepeatedMeasurement(repeats: repeats, minimumSeconds: minimumSeconds) {
      container = QMS1.encrypt(
        plaintext: plaintext, key: key, width: 0, height: 0, channels: 1, bitsPerSample: 8,
        entropy: SystemEntropy(), cores: 1)
    }
    var opened: [UInt8] = []
    let decrypt = try RepeatedMeasurement(repeats: repeats, minimumSeconds: minimumSeconds) {
      opened = try QMS1.decrypt(container, key: key, cores: 1)
    }
    precondition(opened == plaintext, "\(byteCount) bytes did not come back")
    return (encrypt.megabytesPerSecond(byteCount), decrypt.megabytesPerSecond(byteCount))
  }
}
