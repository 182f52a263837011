import HashTraining

/// What a training's log says, drawn.
enum LossCurves {
  static func svg(_ log: [EpochReport]) -> String {
    var stages: [String] = []
    for report in log where !stages.contains(report.stage) { stages.append(report.stage) }
    let charts = stages.map { stage -> Chart in
      var chart = Chart(
        title: "Training, \(stage) pictures", horizontal: "epoch", vertical: "loss")
      // Clients of a federation are averaged.
      let epochs = Dictionary(grouping: log.filter { $0.stage == stage }, by: \.epoch).sorted {
        $0.key < $1.key
      }
      func add(_ name: String, as style: Chart.Style = .solid, _ term: (EpochReport) -> Double) {
        let points = epochs.map { epoch, reports in
          (Double(epoch), reports.reduce(0) { $0 + term($1) } / Double(reports.count))
        }
        if points.contains(where: { $0.1 != 0 }) { chart.add(name, points, as: style) }
      }
      add("total") { $0.loss }
      add("original, L_ori") { $0.original }
      add("adversarial, L_adl") { $0.adversarial }
      add("quantization, L_quant") { $0.quantization }
      add("balance of bits, L_bit") { $0.balance }
      // From zero, where no term is below it, so that heights can be compared.
      let values = chart.series.flatMap { $0.points.map(\.y) }
      if let highest = values.max(), highest > 0, values.allSatisfy({ $0 >= 0 }) {
        chart.verticalRange = 0...highest
      }
      return chart
    }
    return Chart.page(charts)
  }
}
