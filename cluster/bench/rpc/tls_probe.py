"""What TLS a client and a server really agree on, read off the wire between them."""
import contextlib
import socket
import ssl
import threading

_CIPHERS = {0x1301: "TLS_AES_128_GCM_SHA256", 0x1302: "TLS_AES_256_GCM_SHA384",
            0x1303: "TLS_CHACHA20_POLY1305_SHA256"}
_GROUPS = {0x0017: "P-256", 0x0018: "P-384", 0x001D: "X25519", 0x11EC: "X25519MLKEM768"}
_VERSIONS = {0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}
_HANDSHAKE_RECORD = 22
_SERVER_HELLO = 2
_SUPPORTED_VERSIONS = 43
_KEY_SHARE = 51


def parse_server_hello(data):
    """The version, cipher suite and group in a server's first record (RFC 8446, section 4.1.3).

    Returns None where `data` does not start with a whole ServerHello.
    """
    if len(data) < 5 or data[0] != _HANDSHAKE_RECORD:
        return None
    body = data[5:5 + int.from_bytes(data[3:5], "big")]
    try:
        if body[0] != _SERVER_HELLO:
            return None
        at = 4 + 2 + 32
        at += 1 + body[at]
        cipher = int.from_bytes(body[at:at + 2], "big")
        version, group = 0x0303, None
        at += 3
        end = at + 2 + int.from_bytes(body[at:at + 2], "big")
        at += 2
        if end > len(body):
            return None
        while at < end:
            kind = int.from_bytes(body[at:at + 2], "big")
            size = int.from_bytes(body[at + 2:at + 4], "big")
            value = int.from_bytes(body[at + 4:at + 6], "big")
            if kind == _SUPPORTED_VERSIONS:
                version = value
            elif kind == _KEY_SHARE:
                group = value
            at += 4 + size
    except IndexError:
        return None
    return {"version": _VERSIONS.get(version, hex(version)),
            "cipher": _CIPHERS.get(cipher, hex(cipher)),
            "group": None if group is None else _GROUPS.get(group, hex(group))}


class Relay:
    """A port that passes one connection through to `port` and keeps the start of what the server
    says."""

    def __init__(self, port):
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._said = bytearray()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        # A shutdown, unlike a close, wakes a thread that waits in accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def agreed(self):
        return parse_server_hello(bytes(self._said))

    def _run(self):
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            with client, socket.create_connection(("127.0.0.1", self._target)) as server:
                back = threading.Thread(target=self._copy, args=(server, client, self._said),
                                        daemon=True)
                back.start()
                self._copy(client, server, None)
                back.join(5)

    @staticmethod
    def _copy(source, target, kept):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if kept is not None and len(kept) < 4096:
                    kept += data
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def refuses_strangers(port, certificates):
    """Whether the server ends a connection whose client shows no certificate.

    Raises OSError where the server cannot be reached or its own certificate is not good.
    """
    context = ssl.create_default_context(cafile=f"{certificates}/ca.pem")
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        try:
            with context.wrap_socket(raw, server_hostname="localhost") as tls:
                # In TLS 1.3 the client is through before the server has looked for its certificate.
                # A server that does not mind greets or stays silent, a strict one hangs up.
                return tls.recv(1) == b""
        except TimeoutError:
            return False
        except ssl.SSLCertVerificationError:
            raise
        except OSError:
            return True
