"""Throw-away certificates for the RPC benchmark: a CA, one server and one client, ECDSA P-256."""
import pathlib
import subprocess

# The server is reached by number and by name; the URIs are what SFMedIR takes identities from
# (docs/formats/wire.md), and the other peers do not look at them.
_CONFIGURATION = """\
[req]
prompt = no
distinguished_name = subject
[subject]
CN = localhost
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1, URI:sfmedir://bench/scs/server
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectAltName = URI:sfmedir://bench/mcs/client
"""
_DAYS = "2"


def make(folder):
    """Writes ca.pem, server.pem, server.key, client.pem and client.key into `folder`."""
    folder = pathlib.Path(folder)
    configuration = folder / "openssl.cnf"
    configuration.write_text(_CONFIGURATION)
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
               "-config", str(configuration)]

    def openssl(*arguments):
        done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")

    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", _DAYS,
            "-subj", "/CN=bench ca", "-extensions", "ca")
    for name in ("server", "client"):
        openssl("req", "-new", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-days", _DAYS, "-extfile", "openssl.cnf",
                "-extensions", name, "-out", f"{name}.pem")
        (folder / f"{name}.csr").unlink()
    openssl("verify", "-CAfile", "ca.pem", "server.pem", "client.pem")
