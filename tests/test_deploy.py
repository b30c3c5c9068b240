"""What starts renewd elsewhere: compose, image and secrets. Units and manifests: test_deploy_units.py."""

import json
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import dotenv
import jsonschema
import pytest
import yaml

from tests.deployed import DEPLOY, ROOT, is_setting, unsafe_settings
from worker.limits import STOP_SECONDS
from worker.settings import METRICS_PORTS, isolated_settings

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
IMAGE = f"renewd:{PROJECT['project']['version']}"
OURS = {name: service for name, service in SERVICES.items() if service["image"] == IMAGE}
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()

NAMES = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
WORDS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
DURATION = {"type": "string", "pattern": r"^\d+(ms|s|m)$"}
CONDITION = {"enum": ["service_started", "service_healthy", "service_completed_successfully"]}
HEALTH = {
    "type": "object",
    "required": ["test", "interval", "timeout", "retries"],
    "additionalProperties": False,
    "properties": {
        "test": {"type": "array", "prefixItems": [{"enum": ["CMD", "CMD-SHELL"]}], "minItems": 2},
        "interval": DURATION,
        "timeout": DURATION,
        "start_period": DURATION,
        "retries": {"type": "integer", "minimum": 1},
    },
}
SERVICE = {
    "type": "object",
    "required": ["image"],
    "additionalProperties": False,
    "properties": {
        # A name with at least its major version, and no registry's host.
        "image": {"type": "string", "pattern": r"^([a-z][a-z0-9-]*/)?[a-z][a-z0-9-]*:v?\d+[\d.]*$"},
        "build": {
            "required": ["context", "dockerfile"],
            "additionalProperties": {"type": "string"},
        },
        "command": WORDS,
        "entrypoint": WORDS,
        "environment": TEXTS,
        "env_file": NAMES,
        "profiles": NAMES,
        "secrets": NAMES,
        "ports": {"type": "array", "items": {"pattern": r"^127\.0\.0\.1:\$\{\w+:-\d+\}:\d+$"}},
        "volumes": {"type": "array", "items": {"pattern": r"^(\./)?[\w./-]+:/[\w./-]+(:ro)?$"}},
        "tmpfs": NAMES,
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "required": ["condition"],
                "additionalProperties": False,
                "properties": {"condition": CONDITION},
            },
        },
        "healthcheck": HEALTH,
        "deploy": {"additionalProperties": False, "properties": {"replicas": {"type": "string"}}},
        "restart": {"const": "unless-stopped"},
        "stop_grace_period": DURATION,
        "hostname": {"type": "string"},
        "user": {"pattern": r"^\d+:\d+$"},
        "shm_size": {"pattern": r"^\d+m$"},
        "mem_limit": {"pattern": r"^\d+m$"},
        "pids_limit": {"type": "integer"},
        "ulimits": {"type": "object"},
        "read_only": {"type": "boolean"},
        "init": {"type": "boolean"},
        "cap_drop": {"const": ["ALL"]},
        "security_opt": {"const": ["no-new-privileges:true"]},
    },
}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["name", "services", "volumes", "secrets"],
    "additionalProperties": False,
    "patternProperties": {"^x-": {}},
    "properties": {
        "name": {"const": "renewd"},
        "services": {"type": "object", "additionalProperties": SERVICE},
        "volumes": {"type": "object", "additionalProperties": {"type": "null"}},
        "secrets": {
            "type": "object",
            "additionalProperties": {
                "required": ["file"],
                "additionalProperties": False,
                "properties": {"file": {"pattern": r"^\./secrets/\w+$"}},
            },
        },
    },
}


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.y*ml")), ids=lambda path: path.name)
def test_yaml_can_be_read(path: Path) -> None:
    """Every YAML file below deploy/ is well-formed and not empty."""
    assert all(yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.json")), ids=lambda path: path.name)
def test_json_can_be_read(path: Path) -> None:
    """Every JSON file below deploy/ is well-formed and not empty."""
    assert json.loads(path.read_text())


def test_compose_is_valid() -> None:
    """compose.yaml has the shape of the compose specification, pins images and opens loopback only."""
    errors = jsonschema.Draft202012Validator(SCHEMA).iter_errors(COMPOSE)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_compose_is_whole() -> None:
    """Whatever a service of compose.yaml refers to is there: services, secrets, volumes and files."""
    for name, service in SERVICES.items():
        for other, waits in service.get("depends_on", {}).items():
            waits_for_health = waits["condition"] == "service_healthy"
            assert "healthcheck" in SERVICES[other] or not waits_for_health, name
            assert "profiles" not in SERVICES[other], name
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"]), name
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            there = (DEPLOY / source).exists() if source[0] == "." else source in COMPOSE["volumes"]
            assert there, f"{name}: {volume}"


def test_every_process_runs_in_compose() -> None:
    """Each process and the migration are a service; servers and processes tell whether they are well."""
    assert {service["command"][0] for service in OURS.values()} == {*METRICS_PORTS, "migrate"}
    for name, service in SERVICES.items():
        is_asked = "healthcheck" in service or name == "mail"
        assert is_asked == ("restart" in service), name
    for name, port in METRICS_PORTS.items():
        assert f":{port}/healthz" in " ".join(SERVICES[name]["healthcheck"]["test"])


def test_processes_have_time_to_stop() -> None:
    """What charges is given longer to stop than it takes, everywhere."""
    for name in ("scheduler", "worker", "platform"):
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > STOP_SECONDS


def test_our_containers_are_confined() -> None:
    """Our containers cannot write to their root, have no capability and cannot gain any."""
    for name, service in OURS.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["ulimits"] == {"core": 0}, name


def test_compose_sets_only_settings() -> None:
    """Every RENEWD_ variable of compose.yaml and of the image is a setting, and no secret is a value."""
    told = {
        key: value for service in OURS.values() for key, value in service["environment"].items()
    }
    assert unsafe_settings(told) == []
    image = re.findall(r"(RENEWD_\w+)=", DOCKERFILE)
    assert [name for name in image if not is_setting(name)] == []
    for service in SERVICES.values():
        for key in service.get("environment", {}):
            assert not re.search(r"PASS|SECRET|TOKEN|KEY", key) or key.endswith("FILE")


def test_example_settings_are_valid(tmp_path: Path) -> None:
    """deploy/env.example and the secrets that make-secrets.sh writes are taken as they are."""
    told = {key: text or "" for key, text in dotenv.dotenv_values(DEPLOY / "env.example").items()}
    assert unsafe_settings(told) == []
    secrets = {f"RENEWD_{name.upper()}": text for name, text in made_secrets(tmp_path).items()}
    settings = isolated_settings(
        **{
            key.removeprefix("RENEWD_").lower(): text
            for key, text in (told | secrets).items()
            if is_setting(key)
        }
    )
    command = SERVICES["sandbox"]["command"]
    port = command[command.index("--port") + 1]
    assert settings.gateways["sandbox"].base_url == f"http://sandbox:{port}"
    assert settings.smtp_url
    profiles = {one for service in SERVICES.values() for one in service.get("profiles", [])}
    assert set(told["COMPOSE_PROFILES"].split(",")) == profiles


def made_secrets(directory: Path) -> dict[str, str]:
    """What make-secrets.sh leaves in this directory, by name."""
    secrets = directory / "secrets"
    secrets.mkdir(exist_ok=True)
    script = Path(shutil.copy(DEPLOY / "make-secrets.sh", directory))
    subprocess.run([script], check=True, capture_output=True)
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    return {path.name: path.read_text() for path in secrets.iterdir()}


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """make-secrets.sh writes every secret of compose.yaml, each its own, and keeps what is there."""
    first = made_secrets(tmp_path)
    assert set(first) == set(COMPOSE["secrets"])
    assert made_secrets(tmp_path) == first
    passwords = {text for name, text in first.items() if name.endswith("_password")}
    assert {len(password) for password in passwords} == {48}
    assert len(passwords) == 5
    assert first["database_password"] in first["database_url"]
    assert first["rabbitmq_password"] in first["amqp_url"]


def test_no_secret_is_committed() -> None:
    """Git ignores everything below deploy/secrets/, and deploy/.env."""
    assert (DEPLOY / "secrets/.gitignore").read_text().split("\n")[1:3] == ["*", "!.gitignore"]
    assert ".env" in (ROOT / ".gitignore").read_text().split()


def test_image_holds_what_the_wheel_holds() -> None:
    """Every package of the wheel is copied into the image, and nothing that is not locked is installed."""
    copied = set(re.findall(r"^COPY ([\w/.]+)", DOCKERFILE, flags=re.MULTILINE))
    copied |= set(re.search(r"^COPY (pyproject.*) \./$", DOCKERFILE, re.MULTILINE)[1].split())  # type: ignore[index]
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert set(wheel) - copied == set()
    fetches = re.findall(r"pip (?:--python \S+ )?(?:download|install|wheel).*", DOCKERFILE)
    assert len(fetches) == 4
    assert [one for one in fetches if not re.search("--require-hashes|--no-index", one)] == []
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text().split("\n")
    assert [line for line in allowed if line and line[0] not in "#!"] == [
        "*",
        "deploy/*",
        "**/__pycache__",
    ]


def test_image_runs_without_rights() -> None:
    """The last stage of the image ends as a numeric user who is not root, and takes no secret."""
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\S+)$", last, flags=re.MULTILINE) == ["10001:10001"]
    assert re.findall(r"^ARG|--mount=type=secret", DOCKERFILE, flags=re.MULTILINE) == []
    assert re.findall(r"^EXPOSE (.+)$", last, flags=re.MULTILINE) == [
        " ".join(str(port) for port in METRICS_PORTS.values())
    ]


def test_compose_itself_agrees(tmp_path: Path) -> None:
    """Where Docker Compose is installed, it takes the file."""
    docker = shutil.which("docker") or "false"
    known = subprocess.run([docker, "compose", "version"], check=False, capture_output=True)
    if known.returncode != 0:
        return
    copy = shutil.copytree(DEPLOY, tmp_path / "deploy")
    shutil.copy(DEPLOY / "env.example", copy / ".env")
    command = [docker, "compose", "-f", str(copy / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
