"""deploy/secrets.sh: passwords and certificates that only their readers can read."""

from __future__ import annotations

import os
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.conftest import HOME, make_secrets

PUBLIC = {"ca.pem", "proxy.crt", "redis.crt"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_reads_a_secret(secrets: Path) -> None:
    assert mode(secrets) == 0o700
    assert {path.name for path in secrets.iterdir() if mode(path) != 0o600} == PUBLIC


def test_a_secret_belongs_to_the_user_of_the_container_that_reads_it(secrets: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    services = yaml.safe_load((HOME / "compose.yaml").read_text(encoding="utf-8"))["services"]
    for name, service in services.items():
        for secret in set(service["secrets"]) - PUBLIC:
            assert (secrets / secret).stat().st_uid == int(service["user"].split(":")[0]), (name, secret)


def test_a_second_run_changes_nothing_and_a_named_password_changes_alone(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert make_secrets(folder).returncode == 0
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    inode = (folder / "kafka_users").stat().st_ino
    assert make_secrets(folder).returncode == 0
    again = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name for name in first if first[name] != again[name]} <= {"proxy_users"}  # another salt
    assert make_secrets(folder, "--password", "fusion").returncode == 0
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    changed = {name for name in again if again[name] != after[name]} - {"proxy_users"}
    assert changed == {"fusion", "kafka_users", "redis_users.acl"}
    assert (folder / "kafka_users").stat().st_ino == inode, "a container would still see the old file"


@pytest.mark.parametrize(
    "arguments", [["--password", "nobody"], ["--cluster", "Flanders:*"], ["--cluster"], ["-x"]]
)
def test_what_it_does_not_know_it_refuses_by_name(tmp_path: Path, arguments: list[str]) -> None:
    made = make_secrets(tmp_path / "secrets", *arguments)
    assert made.returncode == 2
    assert arguments[-1] in made.stderr
    assert not (tmp_path / "secrets").exists()


@pytest.mark.parametrize(
    ("file", "names"),
    [("redis.crt", ["redis", "localhost", "server-1.example", "192.0.2.7"]),
     ("kafka_server.pem", ["kafka", "localhost", "server-1.example", "192.0.2.7"]),
     ("proxy.crt", ["room.example"])],
)  # fmt: skip
def test_a_certificate_is_signed_by_the_authority_for_its_names(
    secrets: Path, file: str, names: list[str]
) -> None:
    context = ssl.create_default_context(cafile=str(secrets / "ca.pem"))
    assert context.verify_mode is ssl.CERT_REQUIRED
    leaf = ["openssl", "verify", "-x509_strict", "-CAfile", str(secrets / "ca.pem"), "-purpose", "sslserver"]
    for name in names:
        kind = "-verify_ip" if name[0].isdigit() else "-verify_hostname"
        checked = subprocess.run(
            [*leaf, kind, name, secrets / file], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
    other = subprocess.run(
        [*leaf, "-verify_hostname", "other.example", secrets / file], capture_output=True, check=False
    )
    assert other.returncode != 0
