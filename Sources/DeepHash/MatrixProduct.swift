internal import CKernels
internal import COpenBLAS

/// Matrix products through OpenBLAS.
enum MatrixProduct {
  /// Keeps every product on its caller's thread, for the life of the process: images run in parallel, and
  /// threads inside one product only wait for one another when the machine is busy.
  static let useOneThread: Void = sfmedir_blas_set_thread_count(1)

  /// A linear layer: out[r][o] = bias[o] + sum over i of in[r][i] * weight[o][i].
  ///
  /// input: [rows][inputs]; weights: [outputs][inputs]; output: [rows][outputs], apart from the input.
  static func apply(
    _ weights: AffineWeights, to input: UnsafePointer<Float>,
    output: UnsafeMutablePointer<Float>, rows: Int, inputs: Int, outputs: Int
  ) {
    sfmedir_repeat_row(weights.bias, output, rows, outputs)
    cblas_sgemm(
      CblasRowMajor, CblasNoTrans, CblasTrans, blasint(rows), blasint(outputs), blasint(inputs), 1,
      input, blasint(inputs), weights.weight, blasint(inputs), 1, output, blasint(outputs))
  }
}
