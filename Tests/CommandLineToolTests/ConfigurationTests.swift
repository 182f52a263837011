import Testing

@testable import CommandLineTool

@Suite struct ConfigurationTests {
  private func find(
    _ option: String? = nil, _ environment: [String: String] = [:], exists: Set<String> = []
  ) -> String? {
    ClientConfiguration.find(
      option: option, environment: { environment[$0] }, exists: exists.contains)
  }

  @Test func whereTheConfigurationIsLookedFor() {
    let home = ["HOME": "/h"]
    let personal = "/h/.config/sfmedir/cli.toml"
    #expect(find("x", ["SFMEDIR_CONFIG": "y"]) == "x")
    #expect(find(nil, ["SFMEDIR_CONFIG": "y"], exists: ["./sfmedir-dev/cli.toml"]) == "y")
    #expect(
      find(nil, home, exists: ["./sfmedir-dev/cli.toml", personal]) == "./sfmedir-dev/cli.toml")
    #expect(find(nil, home, exists: [personal]) == personal)
    #expect(find(nil, ["SFMEDIR_CONFIG": ""], exists: [personal]) == nil)
    #expect(find() == nil)
  }

  @Test func mistakesAreExitCode78() throws {
    let folder = try ScratchFolder()
    let right = """
      cluster = "dev"
      node = "operator-1"
      state_directory = "/s"
      key_control = "127.0.0.1:7400"
      image_owner = "127.0.0.1:7401"

      """
    try folder.write(right, "right.toml")
    let configuration = try ClientConfiguration.load(option: "\(folder.path)/right.toml")
    #expect(configuration.node == "operator-1")
    #expect("\(configuration.keyControl)" == "127.0.0.1:7400")
    #expect(configuration.imageUser == nil)
    for (name, text) in [
      ("unknown", right + "colour = \"red\"\n"), ("address", right + "master = \"nowhere\"\n"),
      ("syntax", right + "master = \n"), ("missing", "cluster = \"dev\"\n"),
    ] {
      try folder.write(text, name)
      #expect(
        performing: {
          try ClientConfiguration.load(option: "\(folder.path)/\(name)")
        }, throws: { ($0 as? CommandFailure)?.status == .configuration })
    }
    #expect(
      performing: {
        try ClientConfiguration.load(option: "\(folder.path)/none.toml")
      }, throws: { ($0 as? CommandFailure)?.status == .notFound })
  }
}
