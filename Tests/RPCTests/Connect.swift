import CWire
import Glibc

func connectSocket(_ address: inout sfm_address) -> Int32 { sfm_connect(&address) }
func listenSocket(_ address: inout sfm_address) -> Int32 { sfm_listen(&address, 8) }
func localPort(_ descriptor: Int32) -> UInt16 { UInt16(sfm_local_port(descriptor)) }
func closeSocket(_ descriptor: Int32) { sfm_close(descriptor) }
func acceptSocket(_ descriptor: Int32) -> Int32 { sfm_accept(descriptor) }

/// Two ends of one stream, nonblocking.
func makeSocketPair(_ pair: inout [Int32]) -> Bool {
  socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0, &pair) == 0
}
