"""docs/cluster.md says of rights and settings what the files say."""

from __future__ import annotations

import re

import yaml

from cluster.rights import read_rights
from streams.cluster import read_cluster
from tests.deploy.conftest import HOME

DOC = (HOME / "docs/cluster.md").read_text(encoding="utf-8")


def rows(header: str) -> dict[str, list[str]]:
    """Cells of a table of the document by their first cell."""
    lines = DOC[DOC.index(header) :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: rest for first, *rest in cells}


def test_the_table_of_rights_is_that_of_rights_toml() -> None:
    rights = read_rights(HOME / "deploy/rights.toml")
    told = rows("| user | reads |")
    assert told.keys() - {"admin"} == rights.keys()
    for user, given in rights.items():
        reads, writes, groups, ids, _ = told[user]
        if user not in ("worker", "monitor"):
            assert set(re.findall(r"\w+", reads)) == set(given["read"]), user
        assert set(re.findall(r"\w+", writes)) == set(given["write"]), user
        agents = given.get("agents")
        assert groups.endswith(
            "-*" if agents == "*" or user == "monitor" else f"-{agents}" if agents else "-"
        ), user
        assert ids == ("flanders-*" if agents == "*" else f"flanders-{agents}-*" if agents else "-"), user


def test_the_cluster_toml_that_is_shipped_can_be_read() -> None:
    user = {"TWINROOM_KAFKA_USER": "worker", "TWINROOM_KAFKA_PASSWORD_FILE": "/run/secrets/worker"}
    cluster = read_cluster(HOME / "deploy/cluster.toml", user)
    assert cluster.name == "flanders"
    assert cluster.kafka.security == "sasl_ssl"
    assert cluster.redis.url.startswith("rediss://")


def test_services_files_and_variables_of_the_document_exist() -> None:
    for file in re.findall(r"`(deploy/[\w./-]+)`", DOC):
        assert file == "deploy/secrets" or file.startswith("deploy/secrets/") or (HOME / file).exists(), file
    composed = (HOME / "compose.yaml").read_text() + (HOME / "deploy/machines.yaml").read_text()
    for variable in re.findall(r"TWINROOM_(?:BIND|INNER|WORKERS|\w+_HOST)", DOC):
        assert variable in composed
    services = yaml.safe_load(composed.split("# Beside compose.yaml")[0])["services"]
    for words in re.findall(r"docker compose run --rm (?:--no-deps )?(\w+)", DOC):
        assert words in services
