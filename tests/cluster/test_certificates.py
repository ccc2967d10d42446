"""One authority, one server, and no key with which a second could be made."""

import ssl
import subprocess
from pathlib import Path

import pytest

from cluster.certificates import Certificates


def _text(path: Path) -> str:
    command = ["openssl", "x509", "-in", str(path), "-noout", "-text"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_openssl_accepts_the_certificate_for_this_machine_alone(certificates: Certificates) -> None:
    strict = [
        "openssl",
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-CAfile",
        str(certificates.authority),
    ]
    for name, is_accepted in (("localhost", True), ("twinroom.example", False)):
        command = [*strict, "-verify_hostname", name, str(certificates.certificate)]
        assert (subprocess.run(command, capture_output=True).returncode == 0) is is_accepted
    assert "IP Address:127.0.0.1" in _text(certificates.certificate)


def test_the_key_of_the_authority_is_gone(certificates: Certificates) -> None:
    folder = certificates.authority.parent
    holders = [path.name for path in folder.iterdir() if "PRIVATE KEY" in path.read_text()]
    assert sorted(holders) == ["server.key", "server.pem"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)  # the key is the server's
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        context.load_cert_chain(certificates.authority, certificates.key)


def test_only_the_owner_may_read_the_keys(certificates: Certificates) -> None:
    for path in (certificates.key, certificates.keystore):
        assert path.stat().st_mode & 0o777 == 0o600
