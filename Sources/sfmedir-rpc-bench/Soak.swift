import ArgumentParser
struct Soak: AsyncParsableCommand { func run() async throws {} }
