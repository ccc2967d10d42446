"""deploy/nginx: the door lets its own page through and tells the others apart."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.conftest import HOME

CONF = (HOME / "deploy/nginx/nginx.conf").read_text(encoding="utf-8")
CODE = re.sub(r"(?m)^\s*#.*$", "", CONF)


def test_only_tls_is_heard_from_outside() -> None:
    assert re.findall(r"listen ([^;]+);", CODE) == ["8443 ssl", "127.0.0.1:8081"]
    assert set(re.search(r"ssl_protocols ([^;]+);", CODE)[1].split()) == {"TLSv1.2", "TLSv1.3"}  # type: ignore[index]


def test_only_health_goes_without_a_login() -> None:
    before, _, after = CODE.partition("location = /health {")
    assert "auth_basic off" not in before
    assert after.split("}")[0].count("auth_basic off;") == 1
    assert after.split("}", 1)[1].count("auth_basic") == 0


def test_it_writes_to_nothing_but_the_scratch_folder() -> None:
    written = re.findall(r"(?:pid|\w+_temp_path|access_log|error_log) ([^ ;]+)", CODE)
    assert {path for path in written if path not in ("off", "/dev/stdout", "/dev/stderr")} <= {
        f"/tmp/{name}" for name in ("nginx.pid", "body", "proxy", "fastcgi", "uwsgi", "scgi")
    }


@pytest.mark.parametrize(
    ("origin", "host", "told"),
    [("https://room.example", "room.example", "http://localhost:5006"),
     ("https://room.example:8443", "room.example:8443", "http://localhost:5006"),
     ("https://evil.example", "room.example", None), ("https://room.example.evil", "room.example", None),
     ("http://room.example", "room.example", None), ("", "room.example", None), ("null", "room.example", None),
     ("https://a b", "b", None), ("https://room.example", "room.example:8443", None)],
)  # fmt: skip
def test_a_page_of_another_site_is_not_given_an_origin_that_the_dashboard_knows(
    origin: str, host: str, told: str | None
) -> None:
    block = re.search(r'map "\$http_origin \$http_host" \$origin_of \{(.+?)\n    \}', CODE, re.S)
    assert block
    pattern, value = re.search(r'"~(.+)" (\S+);', block[1]).groups()  # type: ignore[union-attr]
    matched = re.search(pattern.replace("(?<", "(?P<").replace(r"\k<own>", "(?P=own)"), f"{origin} {host}")
    assert (value if matched else None) == told


def test_nginx_itself_accepts_the_file(secrets: Path, tmp_path: Path) -> None:
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    file = tmp_path / "nginx.conf"
    file.write_text(
        CONF.replace("/tmp/", f"{tmp_path}/").replace("/run/secrets", str(secrets)), encoding="utf-8"
    )
    checked = subprocess.run(["nginx", "-t", "-c", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
