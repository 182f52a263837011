import Messages

/// Which role may call which method. What is not in the table is refused.
public struct PermissionTable: Sendable {
  private var allowed: [String: Set<Role>]
  private var open: Set<String>

  /// - Parameter open: methods that need no certificate at all.
  public init(_ allowed: [String: Set<Role>], open: Set<String> = []) {
    self.allowed = allowed
    self.open = open
  }

  /// Nil where the caller may go on; otherwise why not.
  public func refusal(of method: String, to caller: Identity?) -> RPCError? {
    if open.contains(method) { return nil }
    guard let caller else {
      return RPCError(.unauthenticated, "\(method) needs a certificate")
    }
    guard let roles = allowed[method], roles.contains(caller.role) else {
      return RPCError(.permissionDenied, "role \(caller.role) may not call \(method)")
    }
    return nil
  }

  /// - Parameter role: nil for a caller without a certificate.
  func allows(_ method: String, to role: Role?) -> Bool {
    open.contains(method) || role.map { allowed[method]?.contains($0) ?? false } ?? false
  }

  /// Roles that may call the method, beside those to whom it is open.
  public func roles(of method: String) -> Set<Role> { allowed[method] ?? [] }

  /// Anybody may call it, also without a certificate.
  public func isOpen(_ method: String) -> Bool { open.contains(method) }

  public var methods: Set<String> { open.union(allowed.keys) }

  /// The cluster's one table. Owners and users never reach a slave or each other; a slave calls nobody.
  public static let cluster = PermissionTable(
    [
      HealthMethods.check.name: Set(Role.allCases),
      HealthMethods.watch.name: Set(Role.allCases),
      ReflectionMethods.listMethods.name: [.operatorTool],
      ReflectionMethods.describeTypes.name: [.operatorTool],
      ReflectionMethods.methodMetrics.name: [.operatorTool],
      KeyControlMethods.renew.name: [
        .imageOwner, .master, .witness, .slave, .imageUser, .operatorTool,
      ],
      KeyControlMethods.fetchKeys.name: [.imageOwner, .master, .imageUser],
      KeyControlMethods.listKeys.name: [.operatorTool],
      KeyControlMethods.rotateKey.name: [.operatorTool],
      KeyControlMethods.createToken.name: [.operatorTool],
      ImageOwnerMethods.storeImage.name: [.operatorTool],
      ImageOwnerMethods.checkImages.name: [.operatorTool],
      ImageOwnerMethods.removeImage.name: [.operatorTool],
      ImageOwnerMethods.listOwnImages.name: [.operatorTool],
      ImageOwnerMethods.ownerStatus.name: [.operatorTool],
      ImageUserMethods.queryImages.name: [.operatorTool],
      ImageUserMethods.getImage.name: [.operatorTool],
      ImageUserMethods.listImages.name: [.operatorTool],
      ImageUserMethods.masterStatus.name: [.operatorTool],
      ImageUserMethods.userStatus.name: [.operatorTool],
      MasterCloudMethods.putImage.name: [.imageOwner],
      MasterCloudMethods.hasImages.name: [.imageOwner],
      MasterCloudMethods.deleteImage.name: [.imageOwner],
      MasterCloudMethods.searchImages.name: [.imageUser],
      MasterCloudMethods.fetchImage.name: [.imageUser],
      MasterCloudMethods.listImages.name: [.imageOwner, .imageUser],
      MasterCloudMethods.clusterStatus.name: [.imageOwner, .imageUser, .operatorTool],
      MasterCloudMethods.explainImage.name: [.operatorTool],
      MasterCloudMethods.listEndangered.name: [.operatorTool],
      MasterCloudMethods.setSlaveCondition.name: [.operatorTool],
      MasterCloudMethods.forgetSlave.name: [.operatorTool],
      MasterCloudMethods.setQuota.name: [.operatorTool],
      MasterCloudMethods.listOwners.name: [.operatorTool],
      ConsensusMethods.exchange.name: [.master, .witness],
      ConsensusMethods.installSnapshot.name: [.master],
      ConsensusMethods.listStateMarks.name: [.master, .operatorTool],
      ConsensusMethods.consensusStatus.name: [.master, .witness, .operatorTool],
      ConsensusMethods.transferLeadership.name: [.operatorTool],
      ConsensusMethods.replaceMember.name: [.operatorTool],
      SlaveCloudMethods.putShadow.name: [.master],
      SlaveCloudMethods.getShadow.name: [.master],
      SlaveCloudMethods.deleteShadows.name: [.master],
      SlaveCloudMethods.listShadows.name: [.master],
      SlaveCloudMethods.listBadShadows.name: [.master, .operatorTool],
      SlaveCloudMethods.startScrub.name: [.master, .operatorTool],
      SlaveCloudMethods.slaveStatus.name: [.master, .operatorTool],
    ],
    open: [KeyControlMethods.join.name])
}
