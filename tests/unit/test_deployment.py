"""What the Dockerfile, docker-compose.yml and systemd's units name is there: files, modules, commands, settings, services."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.settings import Settings, variable
from outbox import Channel
from workers.child import Stage
from workers.supervisor import LEAST_GRACE_S

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "celery-outbox"}
UNITS = sorted((ROOT / "deploy/systemd").iterdir())
SETTINGS = {variable(name) for name in Settings.model_fields}
SCRIPTS = {"celery": "celery.__main__", "outbox": "outbox.cli", "waitress-serve": "waitress"}
"""Commands of the image that are no module by name, and where they come from."""


def instructions(name: str) -> list[str]:
    """The arguments of every such instruction of the Dockerfile, in order."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


def require_command(command: list[str]) -> None:
    """Its program, module and Celery application are there."""
    program, *rest = command
    if Path(program).name == "python":
        module = rest[1] if rest[0] == "-m" else "sys"
        assert importlib.util.find_spec(module), module
        return
    assert importlib.util.find_spec(SCRIPTS[Path(program).name]), program
    if "--app" in rest:
        assert importlib.util.find_spec(rest[rest.index("--app") + 1])
    if "--call" in rest:
        module, _, function = rest[rest.index("--call") + 1].partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def pins(lock: str) -> dict[str, list[str]]:
    """What a lock pins: name and version with their hashes."""
    text = (ROOT / lock).read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    return {re.split(r"[ ;\\]", entry)[0].strip(): re.findall(r"sha256:\w+", entry) for entry in entries}


def test_the_image_installs_the_versions_that_are_tested_by_their_hashes() -> None:
    tested, installed = pins("requirements.lock"), pins("deploy/requirements.lock")
    assert len(installed) > 50
    assert {pin: tested.get(pin) for pin in installed} == installed
    assert all(installed.values())
    [install, *_] = [run for run in instructions("RUN") if "requirements.lock" in run]
    assert "--require-hashes" in install
    assert not any("curl" in run or "apt-get" in run for run in instructions("RUN"))


def test_the_image_runs_as_a_user_without_rights_and_tells_how_it_is() -> None:
    assert instructions("USER") == ["outbox"]
    assert DOCKERFILE.index("\nUSER outbox") < DOCKERFILE.index("\nCMD ")
    [check] = instructions("HEALTHCHECK")
    require_command(json.loads(check.partition("CMD ")[2]))
    [command] = instructions("CMD")
    require_command(json.loads(command))
    assert set(re.findall(r"\b(OUTBOX_\w+)=", DOCKERFILE)) <= SETTINGS


def test_what_the_image_copies_is_there_and_reaches_the_builder() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    sources = [source for copy in instructions("COPY") if "--from" not in copy for source in copy.split()[:-1]]
    assert {"config", "deploy/requirements.lock", "examples", "outbox", "pyproject.toml", "workers"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignore
    assert "*" in ignore


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_what_is_there_by_settings_that_exist(name: str) -> None:
    service = OURS[name]
    require_command(service["command"])
    given = {key for key in service["environment"] if key.startswith("OUTBOX_")}
    assert given <= SETTINGS
    if "worker" in service["command"]:  # whoever delivers must not relay, lest slow sends starve it
        assert ("--queues" in service["command"]) is (name == "relay")
        assert ("--exclude-queues" in service["command"]) is (name != "relay")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_mounts_and_publishes_what_it_may(name: str) -> None:
    service = SERVICES[name]
    assert set(service.get("depends_on", {})) <= set(SERVICES)
    for other, when in service.get("depends_on", {}).items():
        assert when["condition"] != "service_healthy" or "healthcheck" in SERVICES[other]
    for mount in service.get("volumes", []):
        source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", mount).split(":")[0]
        assert source in COMPOSE["volumes"] or (ROOT / source).exists(), mount
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])


def test_nothing_stands_in_the_way_of_more_workers() -> None:
    assert "container_name" not in SERVICES["worker"]
    assert "ports" not in SERVICES["worker"]
    assert "%h" in " ".join(SERVICES["worker"]["command"])


def test_prometheus_reads_the_alerts_and_scrapes_the_exporter() -> None:
    config = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text())
    assert [(ROOT / "monitoring/prometheus" / file).exists() for file in config["rule_files"]] == [True]
    [job] = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"127.0.0.1:{Settings.model_fields['metrics_port'].default}"]}]
    assert SERVICES["metrics"]["network_mode"] == "service:prometheus"
    [source] = yaml.safe_load((ROOT / "monitoring/grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed: no second opinion")
def test_docker_compose_understands_the_file() -> None:
    profiles = {profile for service in SERVICES.values() for profile in service.get("profiles", [])}
    chosen = [word for profile in sorted(profiles) for word in ("--profile", profile)]
    done = subprocess.run(
        ["docker-compose", *chosen, "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_runs_what_is_there(unit: Path) -> None:
    text = unit.read_text()
    for line in re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE):
        require_command(shlex.split(line))
        assert "User=outbox\n" in text
    assert set(re.findall(r"\b(OUTBOX_\w+)=", text)) <= SETTINGS


def test_a_stop_waits_for_a_send_that_takes_all_of_the_default_timeout() -> None:
    grace_s = Settings.model_fields["shutdown_grace_s"].default
    assert grace_s > Channel.timeout
    killed_after_s = [int(found) for unit in UNITS for found in re.findall(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.M)]
    assert len(killed_after_s) == len([unit for unit in UNITS if unit.suffix == ".service"])
    assert min(killed_after_s) > grace_s + len(Stage) * LEAST_GRACE_S
    assert COMPOSE["x-outbox"]["stop_grace_period"] == f"{min(killed_after_s)}s"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed: no second opinion")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    here = Path(sys.executable).parent
    for unit in UNITS:
        (tmp_path / unit.name.replace("@", "@1")).write_text(unit.read_text().replace("/opt/outbox/bin", str(here)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
