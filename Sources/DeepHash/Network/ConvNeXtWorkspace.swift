/// Memory that passes through a network compute in, kept from one call to the next.
///
/// Calls with the same image size and no larger batch allocate nothing. One workspace serves one call at
/// a time, so it is not Sendable: a thread that infers often keeps its own.
public final class ConvNeXtWorkspace {
  private var memory: PassMemory?

  public init() {}

  /// - Parameter input: of the images; its count is how many there are.
  func prepare(
    configuration: ConvNeXtConfiguration, input: ImageExtent, purpose: PassMemory.Purpose
  ) -> PassMemory {
    if let memory, memory.fits(input, configuration: configuration, purpose: purpose) {
      return memory
    }
    // What there was is freed first.
    memory = nil
    let memory = PassMemory(configuration: configuration, capacity: input, purpose: purpose)
    self.memory = memory
    return memory
  }
}
