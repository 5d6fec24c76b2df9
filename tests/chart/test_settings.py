"""What the rendered Pods tell their services: each service's own loader reads it, and every setting can be reached."""

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.dev.programs import installed
from services.audit_writer import config as audit_writer
from services.gateway import config as gateway
from services.scanner import config as scanner
from shared import settings
from shared.broker import BrokerSettings
from shared.errors import BadSetting
from tests.support import chart
from tests.support.chart import component, environment, pod_templates, rendered

LOADERS: dict[str, Callable[[Mapping[str, str]], Any]] = {
    "gateway": gateway.load,
    "scanner": scanner.load,
    "audit-writer": audit_writer.load,
}

LEAST = {
    "gateway": {"MOORGATE_TLS_ISSUER": "self", "MOORGATE_PATH_SECRET": "a"},
    "scanner": {
        "MOORGATE_ANCHORE_URL": "https://anchore.example:8228",
        "MOORGATE_ANCHORE_USERNAME": chart.SECRET,
        "MOORGATE_ANCHORE_PASSWORD": chart.SECRET,
    },
    "audit-writer": {},
}

OWN = {"source", "broker", "path_secret"}
"""Of the configuration: what says who and where one is."""

NOT_BY_VALUES = {
    "MOORGATE_LISTEN": "the Service and the NetworkPolicy say where",
    "MOORGATE_METRICS_LISTEN": "probes and PodMonitors say where",
    "MOORGATE_CLUSTER": "there is one",
    "MOORGATE_POLICIES_FILE": "policies are objects of the cluster",
}

each_set = pytest.mark.parametrize("values", chart.SETS)


@each_set
@pytest.mark.parametrize("service", LOADERS)
def test_the_service_takes_its_environment(values: str, service: str, tmp_path: Path) -> None:
    objects = rendered(values)
    LOADERS[service](environment(component(objects, service), objects, tmp_path))


def test_a_wrong_name_would_be_noticed(tmp_path: Path) -> None:
    objects = rendered("minimal")
    variables = environment(component(objects, "gateway"), objects, tmp_path)
    with pytest.raises(BadSetting, match="MOORGATE_MAXWAIT"):
        gateway.load({**variables, "MOORGATE_MAXWAIT": "3s"})


@pytest.mark.parametrize("service", LOADERS)
def test_defaults_are_the_programs_own(service: str, tmp_path: Path) -> None:
    objects = rendered("minimal")
    by_chart = LOADERS[service](environment(component(objects, service), objects, tmp_path))
    by_program = LOADERS[service](LEAST[service])
    for name in set(by_program.__struct_fields__) - OWN:
        ours, its = getattr(by_chart, name), getattr(by_program, name)
        if name == "outbox":  # the chart gives it a folder, which a program has to be told
            assert str(ours.path) == "/var/lib/moorgate/outbox"
            its = msgspec.structs.replace(its, path=ours.path)
        assert ours == its, name


@each_set
def test_every_pod_names_settings_that_exist(values: str, tmp_path: Path) -> None:
    """Jobs too: each reads at least how NATS is reached, where it is told so."""
    objects = rendered(values)
    for number, template in enumerate(pod_templates(objects)):
        if template.metadata["labels"]["app.kubernetes.io/component"] == "nats":
            continue
        variables = environment(template, objects, tmp_path / str(number))
        BrokerSettings.load(settings.Environment(variables))


def test_every_setting_can_be_reached() -> None:
    said = {
        each["name"].removesuffix("_FILE")
        if each["name"].removesuffix("_FILE") in settings.KNOWN
        else each["name"]
        for values in chart.SETS
        for template in pod_templates(rendered(values))
        for container in template.containers()
        for each in container.get("env", [])
    }
    assert settings.KNOWN - said == NOT_BY_VALUES.keys()


def test_tenants_and_targets_come_as_they_are_written(tmp_path: Path) -> None:
    objects = rendered("everything")
    scanning = scanner.load(environment(component(objects, "scanner"), objects, tmp_path / "scanner"))
    assert scanning.tenants.read().keys() == {"default", "team-a"}
    writing = audit_writer.load(environment(component(objects, "audit-writer"), objects, tmp_path / "writer"))
    assert [each.name for each in writing.notify] == ["ops", "siem", "alerts"]
    assert [each.cluster for each in writing.notify] == ["prod-eu"] * 3


@pytest.mark.parametrize("values", ["minimal", "cert-manager", "everything"])
def test_nats_takes_its_configuration(values: str, tmp_path: Path) -> None:
    """The real server reads what would be mounted, from the folder and with the variables that it would have."""
    objects = rendered(values)
    template = component(objects, "nats")
    container = template.containers()[0]
    variables = environment(template, objects, tmp_path) | {"MOORGATE_NATS_STORE_DIR": str(tmp_path / "data")}
    words = [
        f"{tmp_path}{word}" if word.startswith(("/etc/", "/run/")) else word
        for word in container["command"][1:]
    ]
    done = subprocess.run(
        [installed("nats-server"), *words, "-t"],
        cwd=tmp_path / container["workingDir"].lstrip("/"),
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_the_notify_file_starts_new_audit_writers_when_it_changes() -> None:
    """It is read at the start only."""
    metadata = component(rendered("everything"), "audit-writer").metadata
    assert "checksum/notify" in metadata["annotations"]
    assert msgspec.json.encode(metadata)


def test_on_without_quotes_means_on(tmp_path: Path) -> None:
    """YAML makes a truth value of it, and Helm is not told of the quotes that were meant."""
    objects = rendered("everything")
    writing = audit_writer.load(environment(component(objects, "audit-writer"), objects, tmp_path))
    assert [str(result) for result in writing.notify[0].on] == ["fail"]
