"""compose.yaml is what the Compose specification calls one, and closed where the specification cannot say so.

tests/data/compose-spec.json is the specification's own schema, compose-spec/compose-spec, schema/compose-spec.json
(Apache-2.0, Copyright 2013-2018 Docker, Inc.), byte for byte as the package check-jsonschema 0.39.0 carries it. No
container engine runs these tests: what an engine would do with the file is not shown by them.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from agents.chain import CHAIN

HOME = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((HOME / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
AGENTS = [kind.name for kind in CHAIN]
JOBS = ["rights", "topics", "feed", "status"]  # they end; nobody asks how they are
SCHEMA_SHA256 = "d549057ebc2925f39f62799eab0db7b9e2c18b35b6c00595199116da3ed10e64"

every_service = pytest.mark.parametrize("name", SERVICES)


def schema() -> jsonschema.Draft202012Validator:
    raw = (HOME / "tests/data/compose-spec.json").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == SCHEMA_SHA256, "the schema is not the published one any more"
    return jsonschema.Draft202012Validator(json.loads(raw))


@pytest.mark.parametrize("file", ["compose.yaml", "deploy/machines.yaml"])
def test_the_file_conforms_to_the_compose_specification(file: str) -> None:
    errors = schema().iter_errors(yaml.safe_load((HOME / file).read_text(encoding="utf-8")))
    assert [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in errors] == []


def test_the_schema_refuses_a_misspelt_setting() -> None:
    wrong = {"services": {"kafka": {"image": "a:1", "read-only": True}}}
    assert [e.validator for e in schema().iter_errors(wrong)] == ["unevaluatedProperties"]


@every_service
def test_a_service_is_no_root_and_can_change_nothing_but_its_volumes(name: str) -> None:
    service = SERVICES[name]
    user, group = service["user"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert all(tmpfs.startswith("/tmp:size=") for tmpfs in service["tmpfs"])
    forbidden = {"cap_add", "privileged", "pid", "ipc", "network_mode", "devices", "userns_mode", "env_file"}
    assert not forbidden & service.keys()
    for volume in service.get("volumes", []):
        assert volume.split(":")[0] in COMPOSE["volumes"], "a folder of the host"


@every_service
def test_a_service_has_limits_of_processor_memory_and_processes(name: str) -> None:
    limits = SERVICES[name]["deploy"]["resources"]["limits"]
    assert float(limits["cpus"]) > 0
    assert re.fullmatch(r"\d+[mg]", limits["memory"])
    assert limits["pids"] <= 1024


@every_service
def test_what_stays_up_is_asked_how_it_is_and_started_again(name: str) -> None:
    service = SERVICES[name]
    if name in JOBS:
        assert service["restart"] == "no"
        assert "healthcheck" not in service
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert service["healthcheck"]["retries"] > 1


@every_service
def test_an_image_is_pinned_to_a_version(name: str) -> None:
    _, tag = SERVICES[name]["image"].rsplit(":", 1)
    assert re.match(r"\d+\.\d+\.\d+", tag)


def test_the_base_of_our_image_is_pinned_and_its_last_user_is_no_root() -> None:
    lines = (HOME / "Dockerfile").read_text(encoding="utf-8").splitlines()
    bases = {line.split()[1] for line in lines if line.startswith("FROM")}
    assert bases == {"python:3.11.14-slim-bookworm"}
    assert [line for line in lines if line.startswith("USER")][-1] == f"USER {SERVICES['worker']['user']}"
    assert not any(line.startswith("HEALTHCHECK") for line in lines)


def test_our_image_has_the_version_of_the_project() -> None:
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ours = {service["image"] for service in SERVICES.values() if "build" in service}
    assert ours == {f"twinroom:{project['version']}"}


def test_all_packages_are_copied_into_the_image_and_let_through() -> None:
    setuptools = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    needed = {package.split(".")[0] for package in setuptools["packages"]}
    needed |= {f"{module}.py" for module in setuptools["py-modules"]}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (HOME / "Dockerfile").read_text(encoding="utf-8"), re.M)
    sources = {source for line in copied for source in line.split()}
    ignored = (HOME / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert needed <= sources
    assert "*" in ignored
    assert sources == {line[1:] for line in ignored if line.startswith("!")}
    assert all((HOME / source).exists() for source in sources)


@every_service
def test_no_password_stands_in_an_environment_or_a_command(name: str) -> None:
    service = SERVICES[name]
    for variable, value in service.get("environment", {}).items():
        if re.search("PASS|SECRET|TOKEN|KEY", variable):
            assert variable.endswith("_FILE")
            assert value.removeprefix("/run/secrets/") in service["secrets"]
    assert "password" not in json.dumps(service.get("command", "")).lower()


@every_service
def test_what_a_service_is_given_exists(name: str) -> None:
    service = SERVICES[name]
    for secret in service.get("secrets", []):
        assert secret in COMPOSE["secrets"]
    for config in service.get("configs", []):
        assert config["source"] in COMPOSE["configs"]
    for network in service["networks"]:
        assert network in COMPOSE["networks"]


def test_every_config_is_a_file_of_the_repository() -> None:
    for config in COMPOSE["configs"].values():
        assert (HOME / config["file"]).is_file()


def test_every_secret_is_made_by_the_script_and_ignored_by_git(secrets: Path) -> None:
    assert (HOME / "deploy/.gitignore").read_text(encoding="utf-8").split() == ["/secrets/"]
    for secret in COMPOSE["secrets"].values():
        assert Path(secret["file"]).parent == Path("deploy/secrets")
        assert (secrets / Path(secret["file"]).name).stat().st_size > 0


def test_the_paths_that_configurations_name_are_mounted_there() -> None:
    for service, file in (("kafka", "deploy/kafka/server.properties"), ("redis", "deploy/redis/redis.conf"),
                          ("proxy", "deploy/nginx/nginx.conf"), ("worker", "deploy/cluster.toml")):  # fmt: skip
        text = (HOME / file).read_text(encoding="utf-8")
        named = set(re.findall(r"/run/secrets/([\w.]+)", text))
        assert named
        assert named <= set(SERVICES[service]["secrets"]), file


def test_only_the_proxy_is_published_and_on_the_loopback_address_unless_told_otherwise() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"proxy": ["${TWINROOM_BIND:-127.0.0.1}:${TWINROOM_PORT:-8443}:8443"]}


def test_the_proxy_shares_no_network_with_kafka_redis_or_the_workers() -> None:
    doors = set(SERVICES["proxy"]["networks"])
    reached = {n for n, s in SERVICES.items() if doors & set(s["networks"])} - {"proxy"}
    assert reached == {"dashboard"}
    inner = {name for name, network in COMPOSE["networks"].items() if network.get("internal")}
    assert inner == COMPOSE["networks"].keys() - {"door"}


@pytest.mark.parametrize("name", ["worker", *AGENTS])
def test_workers_can_be_many_and_have_time_to_leave(name: str) -> None:
    service = SERVICES[name]
    assert not {"container_name", "ports", "hostname"} & service.keys()
    assert int(service["stop_grace_period"].removesuffix("s")) >= 20


@pytest.mark.parametrize("name", ["worker", *AGENTS, "dashboard", "feed"])
def test_a_process_enters_under_its_own_name_with_its_own_password(name: str) -> None:
    environment = SERVICES[name]["environment"]
    for server in ("KAFKA", "REDIS"):
        if server == "REDIS" and name == "feed":
            continue
        assert environment[f"TWINROOM_{server}_USER"] == name
        assert environment[f"TWINROOM_{server}_PASSWORD_FILE"] == f"/run/secrets/{name}"
    assert set(SERVICES[name]["secrets"]) == {name, "ca.pem"}


@pytest.mark.parametrize("agent", AGENTS)
def test_each_agent_has_a_service_of_its_own_in_a_profile(agent: str) -> None:
    command = SERVICES[agent]["command"]
    assert command[command.index("--agents") + 1] == agent
    assert SERVICES[agent]["profiles"] == ["apart"]
    assert "profiles" not in SERVICES["worker"]


def test_other_machines_reach_kafka_and_redis_at_an_inner_address_only() -> None:
    added = yaml.safe_load((HOME / "deploy/machines.yaml").read_text(encoding="utf-8"))["services"]
    for name, port in (("kafka", 9092), ("redis", 6379)):
        (published,) = added[name]["ports"]
        assert re.fullmatch(rf"\$\{{TWINROOM_INNER:\?.+\}}:{port}:{port}", published)


def test_workers_elsewhere_and_containers_beside_know_the_servers_by_the_same_names() -> None:
    added = yaml.safe_load((HOME / "deploy/machines.yaml").read_text(encoding="utf-8"))["services"]
    assert added.keys() == {"kafka", "redis", "worker", *AGENTS}
    assert added["kafka"]["environment"]["KAFKA_ADVERTISED"].startswith("${TWINROOM_KAFKA_HOST")
    for name in ("kafka", "redis"):
        (alias,) = added[name]["networks"][name]["aliases"]
        variable = f"${{TWINROOM_{name.upper()}_HOST"
        assert alias.startswith(variable)
        for agent in ("worker", *AGENTS):
            assert f"{variable}}}=${{TWINROOM_INNER}}" in added[agent]["extra_hosts"]
            assert "door" in added[agent]["networks"]
