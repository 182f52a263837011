/// What a synthetic slice shows. The classes stand in for those of a brain-tumour data set (meningioma, glioma,
/// pituitary tumour, no tumour) and resemble them in plane, framing and contrast, so that a network trained on such
/// pictures tells them apart. But nothing here comes from a patient, and nothing can be concluded from it.
public enum PhantomClass: String, Sendable, Equatable, CaseIterable {
  /// A bright, smooth mass against the inside of the skull, in a coronal slice.
  case roundLesion = "round-lesion"
  /// A ragged bright ring with a dark core and a dark surrounding, in one hemisphere of a dim horizontal slice.
  case ringLesion = "ring-lesion"
  /// A small bright mass in the middle of a horizontal slice through the eyes and the base of the brain.
  case midlineLesion = "midline-lesion"
  /// A horizontal slice of high contrast that fills the picture.
  case noLesion = "no-lesion"
}

/// One synthetic slice.
public struct PhantomSlice: Sendable, Equatable {
  /// A ``PhantomClass``'s raw value.
  public let classLabel: String
  /// 16 bits; multiples of 65535/4095, so that 12 bits hold it exactly.
  public let image: GrayImage
}

/// Synthetic brain-like slices for demonstrations and tests, made from a seed and nothing else.
///
/// The same (seed, index) gives the same pixels everywhere: only integer hashes and correctly rounded arithmetic are
/// used. Slices of a class share their anatomy, with random pose, contrast, lesion and noise.
public enum Phantom {
  public static let defaultSide = 256

  /// Classes take turns: slice `index` shows the class number `index % 4`.
  public static func phantomClass(index: Int) -> PhantomClass {
    precondition(index >= 0, "slices count from 0: \(index)")
    return PhantomClass.allCases[index % PhantomClass.allCases.count]
  }

  /// The slice as a picture of `side` x `side` pixels.
  public static func slice(seed: UInt64, index: Int, side: Int = defaultSide) -> PhantomSlice {
    let shown = phantomClass(index: index)
    let values = values12(seed: seed, index: index, side: side)
    let samples = values.map { UInt16((Int($0) * 65_535 + 2_047) / 4_095) }
    return PhantomSlice(
      classLabel: shown.rawValue,
      image: GrayImage(width: side, height: side, bitsPerSample: 16, samples: samples))
  }

  /// The slice as an 8-bit grey PNG file.
  public static func pngFile(seed: UInt64, index: Int, side: Int = defaultSide) -> [UInt8] {
    PngEncoder.encode(slice(seed: seed, index: index, side: side).image.reducedTo8Bits)
  }

  /// The slice as a 12-bit MR DICOM file, whose window shows exactly the picture of ``slice(seed:index:side:)``. All
  /// slices of a seed belong to one study and series of an invented patient.
  public static func dicomFile(seed: UInt64, index: Int, side: Int = defaultSide) -> [UInt8] {
    let shown = phantomClass(index: index)
    let number = String(seed, radix: 16, uppercase: true)
    var picture = DicomPicture(
      rows: side, columns: side, bitsStored: 12,
      pixels: values12(seed: seed, index: index, side: side), windowCenter: 2_048,
      windowWidth: 4_096, patientName: "PHANTOM^SEED \(number)", patientID: "PHANTOM-\(number)",
      studySeed: seed, instanceSeed: UInt64(index))
    picture.instanceNumber = index + 1
    picture.pixelSpacingMillimetres = 240 / Double(side)
    picture.seriesDescription = "synthetic brain phantom"
    picture.comments = "synthetic phantom: \(shown.rawValue)"
    do {
      return try DicomWriter.encode(picture)
    } catch {
      preconditionFailure("slice \(index) of seed \(seed) could not be written: \(error)")
    }
  }

  /// PNG and DICOM alternate, and every class comes as both: 0 PNG, 1 DICOM, 2 PNG, 3 DICOM, 4 DICOM, 5 PNG, ...
  public static func format(index: Int) -> ImageFormat {
    precondition(index >= 0, "slices count from 0: \(index)")
    return (index + index / PhantomClass.allCases.count) % 2 == 0 ? .png : .dicom
  }

  /// The slice as a file of its ``format(index:)``, with a name for it such as `phantom-0005-ring-lesion.png`.
  public static func file(
    seed: UInt64, index: Int, side: Int = defaultSide
  ) -> (name: String, bytes: [UInt8]) {
    let digits = String(index)
    let padded = String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    let stem = "phantom-\(padded)-\(phantomClass(index: index).rawValue)"
    return format(index: index) == .png
      ? (stem + ".png", pngFile(seed: seed, index: index, side: side))
      : (stem + ".dcm", dicomFile(seed: seed, index: index, side: side))
  }

  /// `side * side` values in 0...4095.
  private static func values12(seed: UInt64, index: Int, side: Int) -> [UInt16] {
    precondition((16...4_096).contains(side), "phantoms are 16 to 4096 pixels a side: \(side)")
    let anatomy = PhantomAnatomy(
      shown: phantomClass(index: index), seed: SplitMix64.mixed(seed) ^ UInt64(index))
    return anatomy.render(side: side)
  }
}
