"""What the node makes of a Pod template, and of Services: as a kubelet, DNS and kube-proxy would."""

from typing import Any

import pytest

from deploy.dev.installed.containers import (
    NotReadyError,
    NotUnderstoodError,
    Sources,
    command,
    environment,
    listening_on,
    probe_target,
    user,
)
from deploy.dev.installed.names import hosts_file, ready_endpoints

ADDRESS = "10.200.0.7"


def pod(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "gateway-1", "namespace": "moorgate", "uid": "u", "labels": {"app": "gate"}}
    return {"metadata": metadata, "spec": {"enableServiceLinks": False, **spec}}


def service(name: str, address: str, *ports: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"clusterIP": address, "ports": list(ports)}}


SOURCES = Sources(
    secrets={"users": {"gateway": b"word"}},
    config_maps={"settings": {"A": b"1", "B": b"2"}},
    services=[service("moorgate-nats", "10.201.0.9", {"name": "client", "port": 4222})],
)


def variables(*env: dict[str, Any], whole: tuple[dict[str, Any], ...] = (), **spec: Any) -> dict[str, str]:
    container = {"name": "main", "env": list(env), "envFrom": list(whole)}
    return environment(pod(**spec), container, SOURCES, ADDRESS)


def test_values_come_from_the_template_secrets_config_maps_and_the_pod() -> None:
    found = variables(
        {"name": "PLAIN", "value": "x"},
        {"name": "EMPTY"},
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "users", "key": "gateway"}}},
        {"name": "HERE", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "URL", "value": "http://$(HERE)/$(UNKNOWN)/$$(HERE)"},
        {"name": "B", "value": "own"},
        whole=({"configMapRef": {"name": "settings"}},),
    )

    assert found == {
        "A": "1",
        "B": "own",
        "PLAIN": "x",
        "EMPTY": "",
        "WORD": "word",
        "HERE": ADDRESS,
        "LABEL": "gate",
        "URL": f"http://{ADDRESS}/$(UNKNOWN)/$(HERE)",
    }


def test_what_is_not_there_is_waited_for_unless_it_may_be_missing() -> None:
    missing = {"name": "none", "key": "k"}

    with pytest.raises(NotReadyError, match="secret none is not there"):
        variables({"name": "X", "valueFrom": {"secretKeyRef": missing}})
    assert variables({"name": "X", "valueFrom": {"secretKeyRef": {**missing, "optional": True}}}) == {}


def test_what_the_node_does_not_know_is_an_error() -> None:
    with pytest.raises(NotUnderstoodError):
        variables({"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.surprise"}}})


def test_services_are_told_by_variables_as_a_kubelet_does() -> None:
    found = variables(enableServiceLinks=True)

    assert found["MOORGATE_NATS_SERVICE_HOST"] == "10.201.0.9"
    assert found["MOORGATE_NATS_SERVICE_PORT_CLIENT"] == "4222"
    assert found["MOORGATE_NATS_PORT_4222_TCP"] == "tcp://10.201.0.9:4222"


def test_the_command_is_the_templates_else_the_images() -> None:
    assert command({"args": ["gateway", "$(A)"]}, ["moorgate"], {"A": "1"}) == ["moorgate", "gateway", "1"]
    assert command({"command": ["sh"]}, ["moorgate"], {}) == ["sh"]


def test_pods_listen_at_their_own_address() -> None:
    assert listening_on(ADDRESS, {"MOORGATE_PAGE_LISTEN": "0.0.0.0:9443", "MOORGATE_LISTEN": ""}) == {
        "MOORGATE_LISTEN": f"{ADDRESS}:8443",
        "MOORGATE_METRICS_LISTEN": f"{ADDRESS}:9090",
        "MOORGATE_PAGE_LISTEN": f"{ADDRESS}:9443",
    }


def test_a_container_runs_as_its_security_context_says() -> None:
    template = {"securityContext": {"runAsUser": 5}}

    assert user(pod(securityContext={"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3}), template) == (5, 2, [3])


def test_a_probe_goes_to_the_pods_address() -> None:
    container = {"name": "main", "ports": [{"name": "metrics", "containerPort": 9090}]}

    probe = {"httpGet": {"path": "/readyz", "port": "metrics"}}
    assert probe_target(container, probe, ADDRESS) == ("http", ADDRESS, 9090, "/readyz")
    with pytest.raises(NotUnderstoodError):
        probe_target(container, {"exec": {"command": ["true"]}}, ADDRESS)


def endpoints(name: str, *found: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"kubernetes.io/service-name": name}},
        "ports": [{"name": "client", "port": 4222}],
        "endpoints": list(found),
    }


def endpoint(address: str, *, ready: bool = True, hostname: str = "") -> dict[str, Any]:
    named = {"hostname": hostname} if hostname else {}
    return {"addresses": [address], "conditions": {"ready": ready}, **named}


def test_a_service_has_its_cluster_address_and_a_headless_one_its_pods() -> None:
    services = [service("web", "10.201.0.1"), service("nats", "None")]
    slices = [
        endpoints("web", endpoint("10.200.0.1")),
        endpoints("nats", endpoint("10.200.0.2", hostname="nats-0"), endpoint("10.200.0.3", ready=False)),
    ]

    lines = dict.fromkeys(line.split()[0] for line in hosts_file(services, slices, "moorgate").splitlines())
    assert list(lines) == ["127.0.0.1", "10.201.0.1", "10.200.0.2"]
    assert " nats-0.nats.moorgate.svc " in hosts_file(services, slices, "moorgate")


def test_connections_go_to_ready_endpoints_of_the_port() -> None:
    slices = [endpoints("nats", endpoint("10.200.0.2"), endpoint("10.200.0.3", ready=False))]

    assert ready_endpoints(slices, "nats", "client") == [("10.200.0.2", 4222)]
    assert ready_endpoints(slices, "nats", "other") == []
    assert ready_endpoints(slices, "web", "client") == []
