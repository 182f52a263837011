internal import CKernels
internal import COpenBLAS

/// Matrix products through OpenBLAS, where neither factor is known beforehand; all matrices are row-major and apart from one another.
enum MatrixProduct {
  /// Keeps every product on its caller's thread, for the life of the process: images run in parallel, and
  /// threads inside one product only wait for one another when the machine is busy.
  static let useOneThread: Void = sfmedir_blas_set_thread_count(1)

  /// A linear layer: out[r][o] = sum over i of in[r][i] * weight[o][i], added to what is there where `adds`.
  static func apply(
    _ weight: UnsafePointer<Float>, to input: UnsafePointer<Float>,
    output: UnsafeMutablePointer<Float>, rows: Int, inputs: Int, outputs: Int, adds: Bool = false
  ) {
    cblas_sgemm(
      CblasRowMajor, CblasNoTrans, CblasTrans, blasint(rows), blasint(outputs), blasint(inputs), 1,
      input, blasint(inputs), weight, blasint(inputs), adds ? 1 : 0, output, blasint(outputs))
  }

  /// The layer's gradient with regard to its weight: weight[o][i] += sum over r of out[r][o] * in[r][i].
  static func addWeightGradient(
    _ gradient: UnsafePointer<Float>, input: UnsafePointer<Float>,
    to weight: UnsafeMutablePointer<Float>, rows: Int, inputs: Int, outputs: Int
  ) {
    cblas_sgemm(
      CblasRowMajor, CblasTrans, CblasNoTrans, blasint(outputs), blasint(inputs), blasint(rows), 1,
      gradient, blasint(outputs), input, blasint(inputs), 1, weight, blasint(inputs))
  }
}
