import Glibc

/// Where libFuzzer comes in: `make fuzz`. A property that does not hold ends the process, and libFuzzer keeps the
/// input.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  if let problem = program.run(Array(UnsafeBufferPointer(start: bytes, count: count))) {
    fatalError(problem)
  }
  return 0
}

/// Used by libFuzzer's one thread.
nonisolated(unsafe) private let program: FuzzProgram = {
  guard let program = try? FuzzProgram() else { fatalError("no fuzz program") }
  return program
}()
