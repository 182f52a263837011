import Testing

@testable import Imaging

@Suite struct PhantomTests {
  @Test func slicesRepeatAndDiffer() {
    let first = Phantom.slice(seed: 5, index: 3)
    #expect(first == Phantom.slice(seed: 5, index: 3))
    #expect(first.classLabel == "no-lesion")
    #expect(first.image.width == 256 && first.image.bitsPerSample == 16)
    #expect(first.image != Phantom.slice(seed: 6, index: 3).image)
    #expect(first.image != Phantom.slice(seed: 5, index: 7).image)
  }

  /// Guards the promise that a seed means the same pictures everywhere and for ever.
  @Test func pixelsAreGolden() {
    let checksums = (0..<4).map { index in
      let samples = Phantom.slice(seed: 42, index: index, side: 64).image.samples
      return crc32(samples.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] })
    }
    #expect(checksums == [3_258_849_190, 273_043_521, 4_250_369_126, 3_233_712_080])
  }

  @Test func filesHoldTheSlice() throws {
    for index in 0..<8 {
      let slice = Phantom.slice(seed: 8, index: index)
      let file = Phantom.file(seed: 8, index: index)
      let decoded = try ImageDecoder.decode(file.bytes)
      #expect(decoded.format == Phantom.format(index: index))
      #expect(file.bytes == Phantom.file(seed: 8, index: index).bytes)
      #expect(file.name.hasPrefix("phantom-000\(index)-\(slice.classLabel)."))
      if decoded.format == .dicom {
        #expect(file.name.hasSuffix(".dcm"))
        #expect(decoded.image == slice.image)
        #expect(decoded.dicom?.bitsStored == 12 && decoded.dicom?.modality == "MR")
      } else {
        #expect(file.name.hasSuffix(".png"))
        #expect(decoded.image == slice.image.reducedTo8Bits)
      }
    }
    let formats = (0..<8).map { Phantom.format(index: $0) }
    #expect(formats == [.png, .dicom, .png, .dicom, .dicom, .png, .dicom, .png])
  }

  /// A search by similarity has something to find: the nearest other slice is of the same class.
  @Test func slicesOfAClassLookAlike() {
    let count = 80
    let inputs = (0..<count).map {
      ModelInput.pixels(Phantom.slice(seed: 1, index: $0, side: 128).image)
    }
    var right = 0
    for query in 0..<count {
      var best = (distance: Float.infinity, index: -1)
      for other in 0..<count where other != query {
        var distance: Float = 0
        for (a, b) in zip(inputs[query], inputs[other]) { distance += (a - b) * (a - b) }
        if distance < best.distance { best = (distance, other) }
      }
      if query % 4 == best.index % 4 { right += 1 }
    }
    print("phantoms: nearest neighbour of the same class for \(right) of \(count)")
    #expect(right >= count * 8 / 10)
  }
}
