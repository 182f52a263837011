import ArgumentParser
import Base
import Messages
import RPC

struct StatusCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Show the state of the cluster: daemons, slaves, images, keys, certificates.",
    discussion: """
      EXAMPLE
        sfmedir status

      JSON: a line {"type":"daemon"} for each daemon with role, address, state (ok, unreachable, \
      problem), node, master, model_version, image_key_version, index_key_version, \
      certificate_expires_milliseconds, problem, and of masters and the witness leads, leader, term, \
      commit_index, applied_index, log_bytes; a line {"type":"slave"} for each slave with node, \
      address, state (ok, full, bad shadows, distrusted, read-only, draining, drained, unreachable, given up, lost), \
      reachable, shadows, stored_bytes, free_bytes, reserve_bytes, read_only, corrupt_shadows, \
      bad_shadows, placed_shadows, unknown_shadows, garbage_shadows, distrusted, condition, replacement, given_up, host, rack, \
      zone, last_seen_milliseconds, last_audit_milliseconds, \
      last_full_scrub_milliseconds, scrubbed_bytes, scrub_findings, \
      message; one {"type":"cluster"} with cluster, images, image_bytes, shadows, pending_uploads, \
      pending_deletions, applied_index, care (pending_images, pending_shadows, pending_bytes, \
      balancing_shadows, waiting_shadows, done_shadows, done_bytes, failed_attempts, \
      bytes_per_second, seconds_left, fewest_losses_survived, lost_images, rebuilt_shadows, \
      copied_shadows, made_bytes, passes, off, last_problem), \
      operator_certificate_expires_milliseconds, healthy.

      Exit codes: 0 everything is well; 1 something is not; see docs/command-line.md.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func execute(_ output: Output) async throws -> ExitStatus {
    let cluster = try await connection.connect(output)
    let report = await ClusterReport.gather(cluster, timeout: connection.timeouts.small)
    report.print(to: output)
    return report.isHealthy ? .success : .someFailed
  }
}
