import DeepHash
import Foundation
import HashTraining
import Testing

@Suite struct TrainingRunTests {
}
