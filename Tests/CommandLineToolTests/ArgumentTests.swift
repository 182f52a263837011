import ArgumentParser
import DeepHash
import HashTraining
import Testing

@testable import CommandLineTool

@Suite struct ArgumentTests {
  private func parse<Command>(_ line: String, _: Command.Type) throws -> Command {
    let command = try SFMedIR.parseAsRoot(line.split(separator: " ").map(String.init))
    return try #require(command as? Command, "\(line) gave \(type(of: command))")
  }

  private func exitCode(_ line: String) -> Int32? {
    do {
      _ = try SFMedIR.parseAsRoot(line.split(separator: " ").map(String.init))
      return nil
    } catch {
      return SFMedIR.exitCode(for: error).rawValue
    }
  }

  @Test func upload() throws {
    let command = try parse(
      "upload a b/ -r --tag x=1 --tag y=a=b -j 8 --json --config c.toml --timeout 5",
      UploadCommand.self)
    #expect(command.paths == ["a", "b/"])
    #expect(command.recursive && command.outputOptions.json)
    #expect(command.parallel == 8)
    #expect(command.connection.config == "c.toml")
    #expect(command.connection.timeouts == CallTimeouts(chosenSeconds: 5))
    let tags = try UploadCommand.tags(command.tagTexts)
    #expect(tags.map(\.key) == ["x", "y"])
    #expect(tags.map(\.value) == ["1", "a=b"])
  }

  @Test func query() throws {
    let command = try parse("query i.png -k 7 --out o --montage m.png", QueryCommand.self)
    #expect(command.image == "i.png")
    #expect(command.count == 7)
    #expect(command.out == "o")
    #expect(command.montage == "m.png")
    #expect(try parse("query i.png", QueryCommand.self).count == 5)
  }

  @Test func developmentCluster() throws {
    let up = try parse("dev up --dir d --slaves 10 --threshold 6 --shadows 10", DevUpCommand.self)
    #expect(up.dev.dir == "d")
    #expect(up.slaves == 10)
    let sharing = try #require(try up.sharing())
    #expect(sharing.threshold == 6)
    #expect(sharing.shadows == 10)
    #expect(try parse("dev up", DevUpCommand.self).sharing() == nil)
    #expect(try parse("dev kill scs-3", DevKillCommand.self).node == "scs-3")
    #expect(try parse("dev down --wipe", DevDownCommand.self).wipe)
    #expect(try parse("dev logs mcs-1 -n 3", DevLogsCommand.self).lines == 3)
  }

  @Test func federations() throws {
    let train = try parse(
      "model train --data d --out o --clients 3 --fraction 0.5 --local-epochs 2 --unweighted --label-skew 0.5 "
        + "--proximity 0.1", ModelTrainCommand.self)
    var plan = TrainingPlan(
      configuration: try ConvNeXtConfiguration(
        channels: 1, depths: [1, 1, 1, 1], dims: [8, 8, 8, 8], bits: 8), side: 32, stages: [])
    train.federation.apply(to: &plan)
    #expect(plan.clients == 3 && plan.fraction == 0.5 && plan.localEpochs == 2)
    #expect(!plan.weighted && plan.labelSkew == 0.5)
    #expect(train.federation.proximity == 0.1)
  }

  @Test func remoteProcedureCalls() throws {
    let list = try parse("rpc list --address 127.0.0.1:7 --role scs", RPCListCommand.self)
    #expect(list.daemon.address == "127.0.0.1:7")
    #expect(list.daemon.role == "scs")
    #expect(try parse("rpc describe A/B --node mcs-1", RPCDescribeCommand.self).name == "A/B")
    let call = try parse(
      "rpc call A/B --json-in {} --bulk-in i --bulk-out o --metadata a=b=c --zeros --timeout 9",
      RPCCallCommand.self)
    #expect(call.method == "A/B" && call.jsonIn == "{}")
    #expect(call.bulkIn == "i" && call.bulkOut == "o" && call.zeros)
    let metadata = try RPCCallCommand.metadata(call.metadataTexts)
    #expect(metadata.map(\.key) == ["a"] && metadata.map(\.value) == [Array("b=c".utf8)])
    #expect(try parse("rpc metrics --all", RPCMetricsCommand.self).all)
    let health = try parse("rpc health a.B --watch", RPCHealthCommand.self)
    #expect(health.service == "a.B" && health.watch)
    #expect(try parse("rpc health", RPCHealthCommand.self).service == "")
  }

  @Test func theRest() throws {
    let id = "00112233445566778899aabbccddeeff"
    #expect(try parse("get \(id) -o f", GetCommand.self).id.bytes.first == 0)
    #expect(try parse("rm \(id) \(id)", RemoveCommand.self).ids.count == 2)
    #expect(try parse("ls --all", ListCommand.self).all)
    #expect(try parse("keys rotate index", KeysRotateCommand.self).kind == .index)
    #expect(try parse("keys", KeysListCommand.self).outputOptions.json == false)
    #expect(try parse("phantom --out p --seed 9", PhantomCommand.self).seed == 9)
    #expect(try parse("bench e2e --images d --slaves 6", BenchEndToEndCommand.self).slaves == 6)
    #expect(try parse("bench cipher --json", BenchCipherCommand.self).outputOptions.json)
    _ = try parse("status --json", StatusCommand.self)
    _ = try parse("version", VersionCommand.self)
  }

  @Test(arguments: [
    "upload", "upload a --tag novalue", "upload a --tag =x", "upload a -j 0", "query",
    "query i -k 0", "query i -k 1001", "get zz -o f", "get 0011 -o f",
    "get 00112233445566778899aabbccddeeff", "rm", "rm nothex",
    "get 00112233445566778899aabbccddeeff -o - --json", "dev up --slaves 2",
    "dev up --threshold 3", "dev up --threshold 3 --shadows 3", "dev up --threshold 3 --shadows 6",
    "dev up --threshold 9 --shadows 10 --slaves 10", "keys rotate master", "nonsense",
    "ls --timeout 0",
    "rpc call", "rpc call A/B --metadata x", "rpc call A/B --metadata =x", "rpc describe",
    "rpc list --node a --address h:1 --role mcs", "rpc list --address h:1", "rpc list --role mcs",
    "rpc list --address h --role mcs", "rpc list --address h:1 --role operator",
    "rpc list --address h:1 --role boss", "rpc list --node A", "phantom --out p --count 0",
    "phantom", "bench e2e", "model train --data d --out o --bits 12",
    "model train --data d --out o --epochs 0 --adversarial-epochs 0", "model train --data d",
    "model train --data d --out o --clients 0", "model train --data d --out o --fraction 0.5",
    "model train --data d --out o --local-epochs 2", "model train --data d --out o --unweighted",
    "model train --data d --out o --label-skew 0.5", "model train --data d --out o --proximity 0.1",
    "model compact m --data d",
    "model eval --data d", "model attack i --data d",
    "bench model --net tiny", "dev logs mcs-1 -n 0",
  ]) func wrongUseIsExitCode64(_ line: String) { #expect(exitCode(line) == 64) }

  private func commands(
    below type: any ParsableCommand.Type
  ) -> [any ParsableCommand.Type] {
    type.configuration.subcommands.flatMap {
      $0.configuration.subcommands.isEmpty ? [$0] : commands(below: $0)
    }
  }

  @Test func everyCommandHasJSONAndAnExample() {
    let all = commands(below: SFMedIR.self)
    #expect(all.count == 49)
    for command in all {
      let help = command.helpMessage(columns: 100)
      #expect(help.contains("--json"), "\(command)")
      #expect(help.contains("EXAMPLE"), "\(command)")
      #expect(help.contains("JSON: "), "\(command)")
    }
  }
}
