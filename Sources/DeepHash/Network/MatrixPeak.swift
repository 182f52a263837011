/// What the machine's matrix products reach, to measure everything else by.
public enum MatrixPeak {
  /// Floating-point operations a second of square products, one on each thread at the same time.
  /// - Parameter products: of each thread.
  public static func operations(
    threads: Int, side: Int = 1024, products: Int, seconds: (() -> Void) -> Double
  ) -> Double {
    _ = MatrixProduct.useOneThread
    let buffers = (0..<threads).map { _ in
      (0..<3).map { _ -> FloatBuffer in
        let buffer = FloatBuffer(count: side * side)
        buffer.pointer.update(repeating: 0.5, count: buffer.count)
        return buffer
      }
    }
    let memory = buffers.map { $0.map { SharedMemory($0.pointer) } }
    let elapsed = seconds {
      Lane.inParallel(threads) { thread in
        let (a, b, c) = (memory[thread][0], memory[thread][1], memory[thread][2])
        for _ in 0..<products {
          MatrixProduct.apply(
            b.pointer, to: a.pointer, output: c.pointer, rows: side, inputs: side, outputs: side)
        }
      }
    }
    withExtendedLifetime(buffers) {}
    return 2 * Double(side * side * side * products * threads) / elapsed
  }
}
