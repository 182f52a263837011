import CWire

func connectSocket(_ address: inout sfm_address) -> Int32 { sfm_connect(&address) }
