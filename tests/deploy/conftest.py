"""What a site has after its first command: passwords and certificates of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2]


def make_secrets(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run deploy/secrets.sh into another folder than the site's own."""
    return subprocess.run(
        [HOME / "deploy/secrets.sh", *arguments],
        env=os.environ | {"TWINROOM_SECRETS": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "secrets"
    made = make_secrets(folder, "--names", "server-1.example,192.0.2.7", "--host", "room.example")
    assert made.returncode == 0, made.stderr
    return folder
