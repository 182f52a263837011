import DeepHash
import HashTraining

extension ModelFile {
  /// Why figures or codes that this model gives of a folder's pictures may not mean what they seem to.
  /// - Parameters:
  ///   - split: by which the folder's pictures are divided.
  ///   - dataset: name of the folder.
  func remarks(split: SplitProtocol, of folder: PictureFolder, dataset: String) -> [String] {
    var remarks: [String] = []
    if let own = self.split, own != split {
      remarks.append(
        "it was trained on the \(own.rawValue) split: by the other one it is asked for pictures that it has learned"
      )
    } else if self.split != nil && metadata[Field.splitDigest] == nil {
      remarks.append(
        "it does not say which pictures it was trained on: it may be asked for what it has learned")
    } else if let own = metadata[Field.splitDigest], own != folder.splitDigest {
      remarks.append(
        "it was trained on other pictures, or on another split of them: it may be asked for what it has learned"
      )
    }
    remarks += ancestors.compactMap { $0.remark(of: folder, dataset: dataset) }
    if let own = metadata[Field.dataset], own != dataset {
      remarks.append("it was trained on '\(own)', and this is '\(dataset)'")
    }
    if !classes.isEmpty && classes != folder.classes {
      remarks.append(
        "it was trained to tell \(classes.joined(separator: ", ")) apart, and these are "
          + folder.classes.joined(separator: ", "))
    }
    return remarks
  }
}

extension ModelFile.Ancestor {
  /// Where a training began with a network that had learned from the same pictures, split in another way.
  func remark(of folder: PictureFolder, dataset: String) -> String? {
    if self.dataset.isEmpty {
      return
        "it began with a network that does not say what it was trained on: it may be asked for what that one has learned"
    }
    guard self.dataset == dataset, splitDigest != folder.splitDigest else { return nil }
    return "it began with a network that had learned from '\(dataset)' by another split"
      + (split.isEmpty ? "" : " (\(split))") + ": it may be asked for what that one has learned"
  }
}

/// Files that a command is to write.
enum OutputPaths {
  /// Throws where one could not be written, where two are the same, or where one is a file that is read.
  static func check(_ outputs: [String?], inputs: [String] = []) throws {
    let outputs = outputs.compactMap { $0 }
    for (number, path) in outputs.enumerated() {
      try Files.checkCanWrite(path)
      let others = outputs[..<number]
      if others.contains(where: { Files.absolute($0) == Files.absolute(path) }) {
        throw CommandFailure(.usage, "\(path) would be written twice")
      }
      if (others + inputs).contains(where: { Files.isSame($0, path) }) {
        throw CommandFailure(.usage, "\(path) would be written over what is read or written before")
      }
    }
  }
}
