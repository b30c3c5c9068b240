"""The systemd units and the Kubernetes manifests confine our processes and leave them time to stop."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployed import DEPLOY, ROOT, unsafe_settings
from worker.limits import STOP_SECONDS
from worker.settings import METRICS_PORTS

PROCESSES = ("scheduler", "worker", "platform")
UNITS = sorted(DEPLOY.glob("systemd/*.service"))
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
MANIFESTS: list[dict[str, Any]] = [
    manifest
    for path in sorted(DEPLOY.glob("kubernetes/*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]
BY_NAME = {(one["kind"], one["metadata"]["name"]): one for one in MANIFESTS if "metadata" in one}
PODS = {
    name: one["spec"]["template"]["spec"]
    for (kind, name), one in BY_NAME.items()
    if kind in {"Deployment", "Job"}
}

CONFINED = {
    "DynamicUser": "yes",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "RestrictNamespaces": "yes",
    "SystemCallArchitectures": "native",
    "LimitCORE": "0",
    "UMask": "0077",
}


def lines_of(unit: Path) -> list[tuple[str, str]]:
    """The `Key=value` lines of a unit in order; keys may come several times."""
    return re.findall(r"^(\w+)=(.*)$", unit.read_text(), flags=re.MULTILINE)


def test_every_process_has_a_unit_and_a_deployment() -> None:
    """Systemd and Kubernetes run the same processes, and the migration once."""
    commands = {dict(lines_of(unit))["ExecStart"].rpartition(" ")[2] for unit in UNITS}
    assert commands == {*PROCESSES, "migrate"}
    assert set(PODS) == commands
    assert {pod["containers"][0]["args"][0] for pod in PODS.values()} == commands


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_confined(unit: Path) -> None:
    """A unit runs without rights, without a writable root and without core dumps."""
    told = dict(lines_of(unit))
    assert {key: told.get(key) for key in CONFINED} == CONFINED


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_read_secrets_from_credentials(unit: Path) -> None:
    """A unit sets only settings, and each of its secret files is a credential that it loads."""
    lines = lines_of(unit)
    told = dict(value.partition("=")[::2] for key, value in lines if key == "Environment")
    assert unsafe_settings(told) == []
    loaded = {value.partition(":")[0] for key, value in lines if key == "LoadCredential"}
    files = {value.removeprefix("%d/") for key, value in told.items() if key.endswith("_FILE")}
    assert files == loaded != set()


@pytest.mark.parametrize("process", PROCESSES)
def test_units_leave_time_to_stop(process: str) -> None:
    """SIGTERM goes to the process alone, and the rest is killed later than it takes to stop."""
    (unit,) = DEPLOY.glob(f"systemd/renewd-{process}*.service")
    told = dict(lines_of(unit))
    assert (told["KillMode"], told["Restart"]) == ("mixed", "always")
    assert int(told["TimeoutStopSec"]) > STOP_SECONDS


@pytest.mark.parametrize("name", PODS)
def test_pods_are_confined(name: str) -> None:
    """A pod runs as a numeric user without rights, without a writable root or an API token."""
    pod = PODS[name]
    (container,) = pod["containers"]
    assert container["image"] == f"renewd:{VERSION}"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == 10001
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", PODS)
def test_pods_read_secrets_from_files(name: str) -> None:
    """The settings of a pod are settings, its secrets files below the volume of the secret."""
    pod = PODS[name]
    (container,) = pod["containers"]
    settings = BY_NAME["ConfigMap", container["envFrom"][0]["configMapRef"]["name"]]["data"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    files = [value for key, value in settings.items() if key.endswith("_FILE")]
    assert unsafe_settings(settings) == []
    assert [path for path in files if not path.startswith(mounts["secrets"] + "/")] == []
    assert len(files) == 4
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts)
    assert "env" not in container
    assert not any(kind == "Secret" for kind, _ in BY_NAME)


@pytest.mark.parametrize("process", PROCESSES)
def test_deployments_are_probed_and_found(process: str) -> None:
    """A deployment is probed on /healthz, may stop in time, and its service bears the scraped name."""
    pod = PODS[process]
    (container,) = pod["containers"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert pod["terminationGracePeriodSeconds"] > STOP_SECONDS
    port = METRICS_PORTS[process]
    assert container["ports"] == [{"name": "metrics", "containerPort": port}]
    service = BY_NAME["Service", process]["spec"]
    template = BY_NAME["Deployment", process]["spec"]["template"]["metadata"]
    assert service["clusterIP"] == "None"
    assert service["selector"].items() <= template["labels"].items()
    assert [one["port"] for one in service["ports"]] == [port]
    assert template["annotations"]["prometheus.io/port"] == str(port)


def test_kustomization_lists_every_manifest() -> None:
    """`kubectl apply -k` takes every file of the directory."""
    directory = DEPLOY / "kubernetes"
    listed = yaml.safe_load((directory / "kustomization.yaml").read_text())["resources"]
    assert set(listed) == {path.name for path in directory.glob("*.yaml")} - {"kustomization.yaml"}
