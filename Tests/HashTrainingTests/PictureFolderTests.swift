import DeepHash
import Foundation
import HashTraining
import Imaging
import Testing

@Suite struct PictureFolderTests {
  private static func png(_ number: Int, side: Int = 40) -> [UInt8] {
    PngEncoder.encode(Phantom.slice(seed: 3, index: number, side: side).image)
  }

  private static func open(
    _ scratch: Scratch, _ split: SplitProtocol = .group
  ) throws(PictureFolderError) -> PictureFolder {
    try PictureFolder(directory: scratch.path, split: split, seed: 1)
  }

  @Test func readsAManifestWithBothSplits() throws {
    let scratch = try Scratch()
    for number in 0..<6 { try scratch.write(Self.png(number), to: "pictures/\(number).png") }
    // Line ends of spreadsheets, a quoted field, columns in any order.
    try scratch.write(
      #"""
      class,path,note,split,random_split\#r
      lesion,pictures/0.png,"a, b",train,test\#r
      lesion,pictures/1.png,,train,train\#r
      lesion,pictures/2.png,,test,train\#r
      none,pictures/3.png,"said ""no"" ",train,train\#r
      none,pictures/4.png,,test,test\#r
      none,pictures/5.png,,train,train\#r

      """#, to: "manifest.csv")
    let group = try Self.open(scratch)
    #expect(group.classes == ["lesion", "none"])
    #expect(group.pictures.map(\.path) == (0..<6).map { "pictures/\($0).png" })
    #expect(group.pictures.map(\.label) == [0, 0, 0, 1, 1, 1])
    #expect(group.testImages == [2, 4])
    #expect(try Self.open(scratch, .random).testImages == [0, 4])
    let set = try group.load(side: 64)
    #expect(set.count == 6 && set.height == 64 && set.channels == 1)
    let expected = ModelInput.pixels(try ImageDecoder.decode(Self.png(5)).image, side: 64)
    set.withImage(5) { #expect(Array($0) == expected) }
  }

  @Test func readsFoldersOfTrainingAndTest() throws {
    let scratch = try Scratch()
    for side in ["train", "test"] {
      for (index, name) in ["x", "y"].enumerated() {
        try scratch.write(Self.png(index), to: "\(side)/\(name)/\(index).png")
      }
    }
    try scratch.write("not a picture", to: "train/README.txt")
    try scratch.write("hidden", to: "train/x/.directory")
    let folder = try Self.open(scratch)
    #expect(folder.pictures.count == 4 && folder.trainingImages.count == 2)
    #expect(try Self.open(scratch, .random).pictures.count == 4)
    // Nothing but the folders says that groups are kept apart.
    #expect(folder.splitRemark?.contains("taken as it is") == true)
    #expect(try Self.open(scratch, .random).splitRemark == nil)
    try scratch.write(
      "path,class,split\ntrain/x/0.png,x,train\ntrain/y/1.png,y,train\ntest/x/0.png,x,test",
      to: "manifest.csv")
    #expect(try Self.open(scratch).splitRemark?.contains("taken as it is") == true)
  }

  @Test func shufflesFoldersOfClasses() throws {
    let scratch = try Scratch()
    for number in 0..<20 { try scratch.write(Self.png(number), to: "\(number % 2)/\(number).png") }
    #expect(throws: PictureFolderError.noGroups(path: scratch.path)) { try Self.open(scratch) }
    let folder = try Self.open(scratch, .random)
    #expect(folder.trainingImages.count == 16 && folder.testImages.count == 4)
    #expect(try Self.open(scratch, .random).testImages == folder.testImages)
    let other = try PictureFolder(directory: scratch.path, split: .random, seed: 2)
    #expect(other.testImages != folder.testImages)
  }

  @Test(
    arguments: [
      ("a,b\n", 1, "no columns path and class"),
      ("path,class\n", 1, "no column split"),
      ("path,class,split\n1.png,x\n", 2, "2 fields where 3 are named"),
      ("path,class,split\n1.png,x,train\n1.png,x,test\n", 3, "1.png stands there twice"),
      ("path,class,split\n../1.png,x,train\n", 2, "the path '../1.png' leaves the folder"),
      ("path,class,split\n/etc/passwd,x,train\n", 2, "the path '/etc/passwd' leaves the folder"),
      ("\u{FEFF}path,class,split\n./1.png,x,train\n", 2, "the path './1.png' leaves the folder"),
      (
        "path,class,split\n1.png,x,held\n", 2, "split is 'held', neither train nor test"
      ),
      ("path,class,split\n1.png,,train\n", 2, "the class is ''"),
      ("path,class,split\n1.png,x ,train\n", 2, "the class is 'x '"),
    ])
  func refusesManifestsThatAreNone(text: String, line: Int, reason: String) throws {
    let scratch = try Scratch()
    try scratch.write(text, to: "manifest.csv")
    #expect(throws: PictureFolderError.badManifest(line: line, reason: reason)) {
      try Self.open(scratch)
    }
  }

  /// What would otherwise be left out, so that fewer pictures or classes are learned than there are.
  @Test func refusesFoldersOfWhichSomethingWouldBeMissed() throws {
    func folders() throws -> Scratch {
      let scratch = try Scratch()
      for side in ["train", "test"] {
        for name in ["x", "y"] { try scratch.write(Self.png(1), to: "\(side)/\(name)/1.png") }
      }
      _ = try Self.open(scratch)
      return scratch
    }
    let deep = try folders()
    try deep.write(Self.png(2), to: "train/x/patient/2.png")
    #expect(
      throws: PictureFolderError.unexpected(
        path: deep.path + "/train/x/patient",
        reason: "is a folder, where pictures of a class are expected")
    ) { try Self.open(deep) }

    for (place, reason) in [
      (
        "val/x/2.png",
        "val stands beside train and test: nothing would be learned from it or asked of it"
      ),
      ("2.png", "2.png is a picture, where folders of classes are expected"),
      ("train/2.png", "train/2.png is a picture, where folders of classes are expected"),
    ] {
      let loose = try folders()
      try loose.write(Self.png(2), to: place)
      let error = #expect(throws: PictureFolderError.self) { try Self.open(loose) }
      #expect(error?.description == loose.path + "/" + reason)
    }

    let unnamed = try folders()
    let name = Array("\(unnamed.path)/train/x/".utf8) + [0xFF, 0x2E, 0x70, 0x00]
    let descriptor = name.map { CChar(bitPattern: $0) }.withUnsafeBufferPointer {
      Foundation.open($0.baseAddress!, O_CREAT | O_WRONLY, 0o644)
    }
    try #require(descriptor >= 0)
    close(descriptor)
    #expect(throws: PictureFolderError.self) { try Self.open(unnamed) }

    for link in ["manifest.csv", "train/x/2.png", "train/z"] {
      let dangling = try folders()
      try FileManager.default.createSymbolicLink(
        atPath: "\(dangling.path)/\(link)", withDestinationPath: "nowhere")
      #expect(throws: PictureFolderError.self, "\(link)") { try Self.open(dangling) }
    }

    let file = try folders()
    #expect(throws: PictureFolderError.notAFolder(path: file.path + "/train/x/1.png")) {
      try PictureFolder(directory: file.path + "/train/x/1.png", split: .random, seed: 1)
    }
    try file.write([0xFF, 0xFE, 0x00], to: "manifest.csv")
    #expect(throws: PictureFolderError.badManifest(line: 1, reason: "it is not UTF-8")) {
      try Self.open(file)
    }
  }

  @Test func refusesWhatCannotBeLearnedFrom() throws {
    let scratch = try Scratch()
    #expect(throws: PictureFolderError.noGroups(path: scratch.path)) { try Self.open(scratch) }
    #expect(throws: PictureFolderError.noPictures(path: scratch.path)) {
      try Self.open(scratch, .random)
    }
    func manifest(_ rows: [String]) throws {
      try scratch.write(
        (["path,class,split"] + rows).joined(separator: "\n"), to: "manifest.csv")
    }
    try manifest(["1,x,train", "2,y,train"])
    #expect(throws: PictureFolderError.emptySplit("test")) { try Self.open(scratch) }
    try manifest(["1,x,test", "2,y,test"])
    #expect(throws: PictureFolderError.emptySplit("training")) { try Self.open(scratch) }
    try manifest(["1,x,train", "2,x,train", "3,y,test"])
    #expect(throws: PictureFolderError.oneClass("x")) { try Self.open(scratch) }
    #expect(throws: PictureFolderError.self) {
      try PictureFolder(directory: scratch.path + "/nowhere", split: .random, seed: 1)
    }
  }

  @Test func namesPicturesThatCannotBeRead() throws {
    let scratch = try Scratch()
    try scratch.write(
      "path,class,split\n1.png,x,train\n2.png,y,train\n3.png,x,test\n4.png,x,test",
      to: "manifest.csv")
    try scratch.write(Self.png(1, side: 30), to: "1.png")
    // Another size is no fault.
    try scratch.write(Self.png(2, side: 300), to: "2.png")
    try scratch.write(Array(Self.png(3).prefix(200)), to: "3.png")
    let folder = try Self.open(scratch)
    let error = try #require(throws: PictureFolderError.self) { try folder.load(side: 64) }
    guard case .badPictures(let count, let first) = error else {
      Issue.record("\(error)")
      return
    }
    #expect(count == 2)
    #expect(first.count == 2 && first[0].contains("3.png") && first[1].contains("4.png"))
    #expect(throws: CancellationError.self) { try folder.load(side: 64) { true } }
  }

  @Test func groupsStayOnOneSide() throws {
    let scratch = try Scratch()
    func write(_ last: String, third: String = "g2") throws {
      try scratch.write(
        "path,class,split,group\n1.png,x,train,g1\n2.png,y,train,g2\n3.png,y,train,\(third)\n4.png,x,test,\(last)",
        to: "manifest.csv")
    }
    try write("g3")
    #expect(try Self.open(scratch).splitRemark == nil)
    // An empty cell says no more than a missing column.
    try write("g3", third: "")
    #expect(try Self.open(scratch).splitRemark?.contains("no group (1 of them)") == true)
    try write("g1")
    #expect(throws: PictureFolderError.groupOnBothSides("g1")) { try Self.open(scratch) }
    // Without the column nothing says so, and figures do not go without a word.
    try scratch.write(
      "path,class,split\n1.png,x,train\n2.png,y,train\n4.png,x,test", to: "manifest.csv")
    #expect(try Self.open(scratch).splitRemark != nil)
  }

  @Test func anotherPictureIsAnotherSplit() throws {
    let scratch = try Scratch()
    func digest(_ rows: String) throws -> String {
      try scratch.write("path,class,split\n" + rows, to: "manifest.csv")
      return try Self.open(scratch).splitDigest
    }
    let rows = "1.png,x,train\n2.png,y,train\n3.png,x,test\n"
    let first = try digest(rows)
    #expect(try digest("2.png,y,train\n3.png,x,test\n1.png,x,train\n") == first)
    #expect(try digest(rows + "4.png,x,test\n") != first)
    #expect(try digest("1.png,x,test\n2.png,y,train\n3.png,x,train\n") != first)
  }

  @Test func whatALinkLeadsToIsBounded() throws {
    let scratch = try Scratch()
    let large = scratch.path + "/large"
    #expect(FileManager.default.createFile(atPath: large, contents: nil))
    let handle = try #require(FileHandle(forWritingAtPath: large))
    try handle.truncate(atOffset: 1 << 30)
    try handle.close()
    try FileManager.default.createSymbolicLink(
      atPath: scratch.path + "/manifest.csv", withDestinationPath: large)
    #expect(
      throws: PictureFolderError.unreadable(
        path: scratch.path + "/manifest.csv", reason: "it has more than 268435456 bytes")
    ) { try Self.open(scratch) }
  }
}

@Suite struct ModelFileTests {
  private static func model(channels: Int, bits: Int, heads: [Int]? = nil) throws -> ModelFile {
    let configuration = try ConvNeXtConfiguration(
      channels: channels, depths: [1, 1, 1, 1], dims: [8, 8, 16, 16], bits: bits)
    return ModelFile(
      configuration: configuration,
      parameters: ConvNeXt.initialParameters(configuration, layerScale: 0.5, seed: 4),
      metadata: [ModelFile.Field.side: "48", ModelFile.Field.classes: #"["a","b"]"#], heads: heads)
  }

  private static func outputs(_ model: ModelFile, _ images: [Float]) throws -> [Float] {
    try TrainableNetwork(
      configuration: model.configuration, parameters: model.parameters, height: 32, width: 32,
      lanes: 1
    ).outputs(of: images)
  }

  private static let image = (0..<1024).map { Float($0 % 37) / 37 }

  @Test func headsThatWereTrainedTogetherComeApart() throws {
    let heads = [8, 16, 32]
    let whole = try Self.model(channels: 1, bits: 56, heads: heads)
    let outputs = try Self.outputs(whole, Self.image)
    var first = 0
    for (index, bits) in heads.enumerated() {
      let head = try whole.head(index)
      #expect(head.configuration.bits == bits)
      let own = try Self.outputs(head, Self.image)
      for (a, b) in zip(own, outputs[first..<first + bits]) { #expect(abs(a - b) < 1e-5) }
      first += bits
      #expect(try whole.head(bits: bits)?.parameters == head.parameters)
    }
    #expect(try whole.head(bits: 64) == nil)
    #expect(throws: ModelFileError.self) { try whole.checkMakesCodes() }
  }

  @Test func headsThatWereTrainedTogetherComeTogether() throws {
    let whole = try Self.model(channels: 1, bits: 56, heads: [8, 16, 32])
    let parts = try [2, 0, 1].map { try whole.head($0) }
    let joined = try ModelFile.joined(parts)
    #expect(joined.heads == whole.heads && joined.parameters == whole.parameters)
    let read = try ModelFile(safetensors: try joined.encoded(precision: .single))
    #expect(read.heads == whole.heads && read.parameters == whole.parameters)
    #expect(try ModelFile.joined([parts[0]]).parameters == parts[0].parameters)
    // A file of one head says nothing of heads: other programs read it as it always was.
    #expect(
      try ModelFile(safetensors: parts[0].encoded(precision: .single)).metadata[
        ModelFile.Field.heads] == nil)
    #expect(throws: ModelFileError.self) { try ModelFile.joined([parts[0], parts[0]]) }
    #expect(throws: ModelFileError.self) { try ModelFile.joined([]) }
    var other = parts[1]
    other.parameters[0] += 1
    #expect(throws: ModelFileError.self) { try ModelFile.joined([parts[0], other]) }
    for field in [
      ModelFile.Field.side, ModelFile.Field.classes, ModelFile.Field.split, ModelFile.Field.stage,
    ] {
      var other = parts[1]
      other.metadata[field] = "64"
      #expect(throws: ModelFileError.self) { try ModelFile.joined([parts[0], other]) }
    }
  }

  @Test(arguments: ["[8,16]", "[56,0]", "[28,28]", "8,16,32", "[-8,64]", "[8,16,32,0]"])
  func headsThatDoNotAddUpAreRefused(text: String) throws {
    let whole = try Self.model(channels: 1, bits: 56)
    var metadata = whole.metadata
    metadata[ModelFile.Field.heads] = text
    let network = try ConvNeXt(configuration: whole.configuration, parameters: whole.parameters)
    let bytes = try network.safetensors(precision: .single, metadata: metadata)
    #expect(throws: ModelFileError.self) { try ModelFile(safetensors: bytes) }
  }

  @Test func aModelOfColoursBecomesOneOfGreys() throws {
    let colours = try Self.model(channels: 3, bits: 16)
    let grey = try ConvNeXtConfiguration(
      channels: 1, depths: [1, 1, 1, 1], dims: [8, 8, 16, 16], bits: 16)
    let adapted = ModelFile(
      configuration: grey,
      parameters: try colours.adapted(to: grey, layerScale: 0.5, seed: 1), metadata: [:])
    // What a grey picture in all three channels gave before.
    let before = try Self.outputs(colours, Self.image + Self.image + Self.image)
    let after = try Self.outputs(adapted, Self.image)
    for (a, b) in zip(before, after) { #expect(abs(a - b) < 1e-5) }
    // Another length of code: the trunk stays, the head is new.
    let longer = try ConvNeXtConfiguration(
      channels: 1, depths: [1, 1, 1, 1], dims: [8, 8, 16, 16], bits: 32)
    let parameters = try colours.adapted(to: longer, layerScale: 0.5, seed: 1)
    let layout = ParameterLayout(longer)
    let entry = try #require(layout.entry(named: "stages.2.blocks.0.mlp.fc1.weight"))
    let source = try #require(
      ParameterLayout(colours.configuration).entry(named: entry.name))
    #expect(Array(parameters[entry.range]) == Array(colours.parameters[source.range]))
    let other = try ConvNeXtConfiguration(
      channels: 1, depths: [1, 2, 1, 1], dims: [8, 8, 16, 16], bits: 16)
    #expect(throws: ModelFileError.self) {
      try colours.adapted(to: other, layerScale: 0.5, seed: 1)
    }
    // One of timm's, with a thousand outputs and pictures normalised as ImageNet's are.
    var theirs = try Self.model(channels: 3, bits: 1000)
    theirs.metadata = [:]
    let own = ModelFile(
      configuration: grey,
      parameters: try theirs.adapted(to: grey, layerScale: 0.5, seed: 1), metadata: [:])
    func stem(_ model: ModelFile, _ image: [Float]) throws -> [Float] {
      var seen: [Float] = []
      _ = try ConvNeXt(configuration: model.configuration, parameters: model.parameters).observe(
        batch: image, count: 1, height: 32, width: 32
      ) { name, values, _ in if name == "stem" { seen = Array(values) } }
      return seen
    }
    // The normalisation that ours has, undone, and theirs in its place.
    let normalised = [(Float(0.485), Float(0.229)), (0.456, 0.224), (0.406, 0.225)].flatMap {
      mean, deviation in Self.image.map { 0.5 + 0.25 * ($0 - mean) / deviation }
    }
    for (a, b) in zip(try stem(own, Self.image), try stem(theirs, normalised)) {
      #expect(abs(a - b) < 1e-4)
    }
  }

  @Test func readsWhatItWrites() throws {
    let model = try Self.model(channels: 1, bits: 16)
    let read = try ModelFile(safetensors: try model.encoded(precision: .single))
    #expect(read.parameters == model.parameters && read.configuration == model.configuration)
    #expect(read.side == 48 && read.classes == ["a", "b"] && read.split == nil)
    for (side, isRefused) in [("1000000000", true), ("abc", true), ("-64", true), ("128", false)] {
      var other = model
      other.metadata[ModelFile.Field.side] = side
      other.metadata[ModelFile.Field.classes] = "{"
      let bytes = try other.encoded(precision: .half)
      if isRefused {
        #expect(throws: ModelFileError.self) { try ModelFile(safetensors: bytes) }
      } else {
        #expect(try ModelFile(safetensors: bytes).side == 128)
        #expect(try ModelFile(safetensors: bytes).classes.isEmpty)
      }
    }
    #expect(throws: ModelFileError.self) {
      try Self.model(channels: 3, bits: 16).checkMakesCodes()
    }
    #expect(throws: ModelFileError.self) {
      try Self.model(channels: 1, bits: 65).checkMakesCodes()
    }
  }

  @Test func halfPrecisionTellsWhichCodesItChanges() throws {
    var model = try Self.model(channels: 1, bits: 8)
    let set = TrainingSet(
      labels: [0, 1, 0], classes: ["a", "b"], channels: 1, height: 48, width: 48
    ) { number, out in
      for at in out.indices { out[at] = Float((at * 7 + number * 31) % 101) / 100 }
    }
    // Outputs that the bias decides: with numbers that half precision has, codes stay.
    let layout = ParameterLayout(model.configuration)
    let (weight, bias) = try (
      #require(layout.entry(named: "head.fc.weight")),
      #require(layout.entry(named: "head.fc.bias"))
    )
    for at in weight.range { model.parameters[at] = 0 }
    for at in bias.range { model.parameters[at] = at % 2 == 0 ? 0.5 : -0.25 }
    let same = try CompactModel(model, comparedOn: set, lanes: 2)
    #expect(same.pictures == 3 && same.changed == [] && same.largestChange == 0)
    #expect(same.bytes.count < (try model.encoded(precision: .single).count) * 3 / 5)
    // What is too small for it becomes zero, which counts as positive.
    model.parameters[bias.range.lowerBound] = -1e-9
    let other = try CompactModel(model, comparedOn: set, lanes: 1)
    #expect(other.changed == [0, 1, 2] && other.largestChange == 1e-9)
    let read = try ModelFile(safetensors: same.bytes)
    #expect(read.metadata[ModelFile.Field.classes] == #"["a","b"]"#)
  }

  @Test func headsAreTakenOverByTheirLength() throws {
    let whole = try Self.model(channels: 1, bits: 24, heads: [8, 16])
    let wanted = try whole.configuration.with(bits: 56)
    let adapted = ModelFile(
      configuration: wanted,
      parameters: try whole.adapted(to: wanted, heads: [16, 32, 8], layerScale: 0.5, seed: 9),
      metadata: [:], heads: [16, 32, 8])
    for bits in [8, 16] {
      #expect(try adapted.head(bits: bits)?.parameters == whole.head(bits: bits)?.parameters)
    }
    let begun = ModelFile(
      configuration: wanted,
      parameters: ConvNeXt.initialParameters(wanted, layerScale: 0.5, seed: 9), metadata: [:],
      heads: [16, 32, 8])
    let layout = ParameterLayout(try wanted.with(bits: 32))
    let range = try #require(layout.entry(named: "head.fc.weight")).range
    #expect(
      try adapted.head(bits: 32)?.parameters[range] == begun.head(bits: 32)?.parameters[range])
  }

  @Test func aNetworkThatCameApartIsNoModel() throws {
    var model = try Self.model(channels: 1, bits: 8)
    let layout = ParameterLayout(model.configuration)
    let weight = try #require(layout.entry(named: "head.fc.weight")).range
    model.parameters[weight.lowerBound] = 3e38
    model.parameters[weight.lowerBound + 1] = 3e38
    let set = TrainingSet(
      labels: [0, 1], classes: ["a", "b"], channels: 1, height: 48, width: 48
    ) { number, out in
      for at in out.indices { out[at] = Float((at * 7 + number * 31) % 101) / 100 }
    }
    #expect(throws: ModelFileError.self) {
      try CompactModel(model, precision: .single, comparedOn: set, lanes: 1)
    }
    // Half precision would make it infinite without a word.
    #expect(throws: ModelFileError.self) { try model.encoded(precision: .half) }
    #expect(throws: ModelFileError.self) { try ModelFile.checkAreNumbers([1, .nan]) }
    #expect(throws: ModelFileError.self) { try ModelFile.checkAreNumbers([.infinity]) }
    try ModelFile.checkAreNumbers([1, -3e38])
  }

  @Test func aSplitWithoutANumberForItsSeedIsRefused() throws {
    var model = try Self.model(channels: 1, bits: 8)
    model.metadata[ModelFile.Field.splitSeed] = "yesterday"
    let bytes = try model.encoded(precision: .single)
    #expect(throws: ModelFileError.self) { try ModelFile(safetensors: bytes) }
  }

  @Test func aModelSaysWhatItsTrainingBeganWith() throws {
    var first = try Self.model(channels: 1, bits: 8)
    first.metadata[ModelFile.Field.dataset] = "heads"
    first.metadata[ModelFile.Field.split] = "random"
    first.metadata[ModelFile.Field.splitDigest] = "d"
    #expect(first.ancestors.isEmpty)
    let descent = first.descent(digest: "a")
    #expect(
      descent.map { [$0.digest, $0.dataset, $0.split, $0.splitDigest] }
        == [["a", "heads", "random", "d"]])
    // Over a network in between, too, and through a file.
    var second = try Self.model(channels: 1, bits: 8)
    second.metadata[ModelFile.Field.ancestors] = String(
      decoding: try JSONEncoder().encode(descent), as: UTF8.self)
    let read = try ModelFile(safetensors: second.encoded(precision: .single))
    #expect(read.ancestors == descent)
    #expect(read.descent(digest: "b").map(\.digest) == ["a", "b"])
    #expect(throws: ModelFileError.self) { try ModelFile.joined([read, first]) }
    // Nobody is to take silence for innocence.
    var silent = first
    silent.metadata[ModelFile.Field.training] = "--epochs 3 --init heads.safetensors --seed 1"
    #expect(silent.ancestors.map(\.dataset) == [""])
    #expect(silent.descent(digest: "c").map(\.dataset) == ["", "heads"])
    for text in ["", "[]", "[{}]", "nobody"] {
      second.metadata[ModelFile.Field.ancestors] = text
      let bytes = try second.encoded(precision: .single)
      #expect(throws: ModelFileError.self, "\(text)") { try ModelFile(safetensors: bytes) }
    }
  }
}
