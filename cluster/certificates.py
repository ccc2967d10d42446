"""A throw-away certificate authority and one server certificate, for the servers of one machine."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from streams.cluster import ClusterError

# The fields that Python's and Java's strict verification ask for. P-256 keys are made in milliseconds.
REQUEST = """
[req]
prompt = no
distinguished_name = name
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1, DNS:localhost
"""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Where the PEM files lie.

    Parameters
    ----------
    authority
        The authority's certificate: what clients trust.
    certificate, key
        The server's certificate and its PKCS #8 key (mode 0600).
    keystore
        Key, certificate and authority in one file (mode 0600), as Kafka wants them.
    """

    authority: Path
    certificate: Path
    key: Path
    keystore: Path

    @classmethod
    def of(cls, folder: Path) -> Certificates | None:
        """Those that :func:`make_certificates` made in a folder; None where one is missing."""
        names = ("authority.pem", "server.crt", "server.key", "server.pem")
        found = cls(*(folder / name for name in names))
        return found if all((folder / name).is_file() for name in names) else None


def make_certificates(folder: Path, days: int = 30) -> Certificates:
    """Make an authority, let it sign one certificate for 127.0.0.1 and localhost, and throw its key away.

    Nobody can sign a second certificate with that authority, so whoever trusts it trusts these servers alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificates(
        folder / "authority.pem", folder / "server.crt", folder / "server.key", folder / "server.pem"
    )
    for secret in (made.key, made.keystore):
        secret.touch(mode=0o600)
        secret.chmod(0o600)
    with tempfile.TemporaryDirectory() as scratch:
        authority_key = Path(scratch) / "authority.key"
        _certify(Path(scratch), "authority", days, authority_key, made.authority)
        signer = ["-CA", str(made.authority), "-CAkey", str(authority_key)]
        _certify(Path(scratch), "server", days, made.key, made.certificate, signer)
    parts = (made.key, made.certificate, made.authority)
    made.keystore.write_text("".join(part.read_text(encoding="ascii") for part in parts), encoding="ascii")
    return made


def _certify(
    scratch: Path, section: str, days: int, key: Path, certificate: Path, signer: list[str] | None = None
) -> None:
    request = scratch / f"{section}.cnf"
    request.write_text(REQUEST.format(name=f"Twinroom {section}"), encoding="ascii")
    command = ["openssl", "req", "-x509", "-config", str(request), "-extensions", section, "-days", str(days)]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-sha256"]
    command += ["-keyout", str(key), "-out", str(certificate), *(signer or [])]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ClusterError("openssl is not installed: it makes the certificates") from error
    except subprocess.CalledProcessError as error:
        raise ClusterError(f"openssl made no certificate for {section}: {error.stderr.strip()}") from error
