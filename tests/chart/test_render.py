"""Every object that the chart renders, by every set of values: bounds on what Pods may do, and that names meet."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from deploy.dev.helm import CHART, Release
from tests.support import chart
from tests.support.chart import Json, PodTemplate, component, of_kind, pod_templates, rendered

CLUSTER_SCOPED = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "PriorityClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}

ELSEWHERE = {"moorgate-bootstrap-registries": "registries"}
"""What the values of `everything` put into another namespace."""

each_set = pytest.mark.parametrize("values", chart.SETS)

SERVICES = ("gateway", "scanner", "audit-writer")


@each_set
def test_containers_can_do_nothing_that_they_need_not(values: str) -> None:
    for template in pod_templates(rendered(values)):
        pod = template.spec["securityContext"]
        assert pod["runAsNonRoot"] is True, template.name
        assert pod["runAsUser"] > 0, template.name
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, template.name
        for container in template.containers():
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, template.name
            assert own["readOnlyRootFilesystem"] is True, template.name
            assert own["capabilities"] == {"drop": ["ALL"]}, template.name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & template.spec.keys(), template.name
        assert template.spec["enableServiceLinks"] is False, template.name


@each_set
def test_every_account_is_there_and_used(values: str) -> None:
    objects = rendered(values)
    made = {each["metadata"]["name"] for each in of_kind(objects, "ServiceAccount")}
    assert made == {each.spec["serviceAccountName"] for each in pod_templates(objects)}


@each_set
def test_images_are_pinned(values: str) -> None:
    for template in pod_templates(rendered(values)):
        for container in template.containers():
            name, separator, version = container["image"].partition("@")
            tag = version or name.rpartition("/")[2].partition(":")[2]
            assert tag, template.name
            assert tag != "latest", template.name
            assert not separator or version.startswith("sha256:"), template.name


@each_set
def test_resources_are_set_aside_and_memory_is_bounded(values: str) -> None:
    for template in pod_templates(rendered(values)):
        for container in template.containers():
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, template.name
            assert "memory" in container["resources"]["limits"], template.name


@each_set
def test_selectors_find_what_they_mean(values: str) -> None:
    objects = rendered(values)
    templates = [each for each in pod_templates(objects) if each.owner["kind"] != "Job"]
    for each in templates:
        assert _matches(each.owner["spec"]["selector"]["matchLabels"], each), each.name
        found = [
            other.name
            for other in pod_templates(objects)
            if _matches(each.owner["spec"]["selector"]["matchLabels"], other)
        ]
        assert found == [each.name]
    for service in of_kind(objects, "Service"):
        (target,) = [each for each in templates if _matches(service["spec"]["selector"], each)]
        ports = {port["name"] for container in target.containers() for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, service["metadata"]["name"]


def _matches(labels: Json, template: PodTemplate) -> bool:
    return bool(labels.items() <= template.metadata["labels"].items())


@each_set
def test_a_drain_can_go_on_and_leaves_somebody(values: str) -> None:
    objects = rendered(values)
    for budget in of_kind(objects, "PodDisruptionBudget"):
        (target,) = [
            each
            for each in pod_templates(objects)
            if _matches(budget["spec"]["selector"]["matchLabels"], each)
        ]
        replicas = target.owner["spec"].get("replicas", 2)
        assert 1 <= budget["spec"]["maxUnavailable"] <= max(1, replicas - 1), budget["metadata"]["name"]


def test_an_autoscaler_alone_says_how_many() -> None:
    objects = rendered("everything")
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        reference = scaler["spec"]["scaleTargetRef"]
        target = chart.named(objects, reference["kind"], reference["name"])
        assert "replicas" not in target["spec"]
        assert "cpu" in target["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]


@each_set
def test_everything_has_its_place_and_its_labels(values: str) -> None:
    seen = set()
    for each in rendered(values):
        metadata = each["metadata"]
        if each["kind"] not in CLUSTER_SCOPED:
            assert metadata["namespace"] in ELSEWHERE.get(metadata["name"], "moorgate"), metadata
        else:
            assert "namespace" not in metadata, metadata
        assert metadata["labels"]["app.kubernetes.io/instance"] == "moorgate", metadata
        assert metadata["labels"]["helm.sh/chart"].startswith("moorgate-"), metadata
        identity = (each["apiVersion"], each["kind"], metadata.get("namespace"), metadata["name"])
        assert identity not in seen
        seen.add(identity)


def test_common_labels_are_everywhere_and_never_over_the_charts_own() -> None:
    for each in rendered("everything"):
        assert each["metadata"]["labels"]["team"] == "platform", each["metadata"]["name"]


@each_set
def test_configmaps_that_are_mounted_are_rendered(values: str) -> None:
    objects, given = rendered(values), str(chart.values_of(values))
    made = {each["metadata"]["name"] for each in of_kind(objects, "ConfigMap")}
    for template in pod_templates(objects):
        for name in _referenced(template.spec, "configMap"):
            assert name in made or f"'{name}'" in given, f"{template.name} mounts {name}"


@each_set
def test_secrets_are_those_of_the_values_and_those_made_in_the_cluster(values: str) -> None:
    objects, given = rendered(values), str(chart.values_of(values))
    assert not of_kind(objects, "Secret"), (
        "a template that makes a Secret makes another one at each rendering"
    )
    beginning = "gate" if "gate-gateway" in {each["metadata"]["name"] for each in objects} else "moorgate"
    made = {
        f"{beginning}-{each}"
        for each in ("nats-users", "nats-tls", "webhook-path", "anchore", "gateway-cert", "page-cert")
    }
    for template in pod_templates(objects):
        for name in _referenced(template.spec, "secret"):
            assert name in made or f"'{name}'" in given, f"{template.name} mounts {name}"


def _referenced(node: Any, kind: str) -> Iterator[str]:
    """Names of ConfigMaps or Secrets anywhere in a Pod's spec."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in (kind, f"{kind}KeyRef") and isinstance(value, dict):
                yield value.get("secretName") or value["name"]
            yield from _referenced(value, kind)
    elif isinstance(node, list):
        for value in node:
            yield from _referenced(value, kind)


def test_a_gateway_goes_without_losing_an_admission() -> None:
    template = component(rendered("minimal"), "gateway")
    sleep = template.containers()[0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep >= 5
    assert template.spec["terminationGracePeriodSeconds"] >= sleep + 30
    assert template.owner["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@each_set
def test_replicas_prefer_other_nodes_and_zones(values: str) -> None:
    for template in pod_templates(rendered(values)):
        if template.owner["kind"] == "Job":
            continue
        assert template.spec["affinity"], template.name
        assert template.spec["topologySpreadConstraints"], template.name


@pytest.mark.parametrize("values", ["minimal", "everything"])
def test_network_policies_cover_every_pod_and_open_what_it_serves(values: str) -> None:
    objects = rendered(values)
    for template in pod_templates(objects):
        (policy,) = [
            each
            for each in of_kind(objects, "NetworkPolicy")
            if _selects(each["spec"]["podSelector"], template)
        ]
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        opened = {port["port"] for rule in policy["spec"].get("ingress", []) for port in rule["ports"]}
        served = {port["containerPort"] for each in template.containers() for port in each.get("ports", [])}
        assert opened == served - {8222}, template.name


def _selects(selector: Json, template: PodTemplate) -> bool:
    labels = template.metadata["labels"]
    chosen = (labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", []))
    return _matches(selector["matchLabels"], template) and all(chosen)


def test_the_page_is_served_only_where_it_is_switched_on() -> None:
    assert "moorgate-page" not in {each["metadata"]["name"] for each in rendered("minimal")}
    objects = rendered("everything")
    template = component(objects, "audit-writer")
    service = chart.named(objects, "Service", "moorgate-page")
    assert _matches(service["spec"]["selector"], template)
    (port,) = service["spec"]["ports"]
    served = {each["name"]: each["containerPort"] for each in template.containers()[0]["ports"]}
    assert served[port["targetPort"]] == 8444
    variables = {each["name"]: each.get("value", "") for each in template.containers()[0]["env"]}
    assert variables["MOORGATE_PAGE_LISTEN"] == "0.0.0.0:8444"
    certificate = chart.named(objects, "Certificate", "moorgate-page")["spec"]
    assert certificate["dnsNames"] == ["moorgate-page.moorgate.svc", "moorgate.example.com"]
    assert certificate["secretName"] in _referenced(template.spec, "secret")
    rules = chart.named(objects, "NetworkPolicy", "moorgate-audit-writer")["spec"]["ingress"]
    assert [rule["from"] for rule in rules if rule["ports"] == [{"protocol": "TCP", "port": 8444}]] == [
        [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "proxies"}}}]
    ]


def test_only_moorgates_parts_and_those_named_reach_nats() -> None:
    (client, cluster) = chart.named(rendered("everything"), "NetworkPolicy", "moorgate-nats")["spec"][
        "ingress"
    ]
    assert [port["port"] for port in client["ports"]] == [4222]
    parts = client["from"][0]["podSelector"]["matchExpressions"][0]["values"]
    assert set(parts) == {*SERVICES, "bootstrap"}
    assert client["from"][1:] == [{"podSelector": {"matchLabels": {"app": "siem"}}}]
    assert cluster["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "nats"


def test_the_scanner_reaches_anchore_and_not_the_api_server_by_a_rule_of_its_own() -> None:
    egress = chart.named(rendered("minimal"), "NetworkPolicy", "moorgate-scanner")["spec"]["egress"]
    assert [[port["port"] for port in rule["ports"]] for rule in egress] == [
        [53, 53],
        [8228, 443, 80],
        [4222],
    ]


def test_custom_resource_definitions_are_the_one_copy_and_stay() -> None:
    objects = rendered("minimal")
    sources = [yaml.safe_load(path.read_text()) for path in sorted((CHART / "files" / "crds").glob("*.yaml"))]
    assert sources
    made = of_kind(objects, "CustomResourceDefinition")
    assert {each["metadata"]["name"] for each in made} == {each["metadata"]["name"] for each in sources}
    for source in sources:
        crd = chart.named(objects, "CustomResourceDefinition", source["metadata"]["name"])
        assert crd["spec"] == source["spec"]
        assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_nats_asks_for_as_many_copies_as_it_has_servers() -> None:
    for values, servers in (("minimal", 3), ("cert-manager", 1)):
        objects = rendered(values)
        assert component(objects, "nats").owner["spec"]["replicas"] == servers
        said = {
            each["value"]
            for template in pod_templates(objects)
            for container in template.containers()
            for each in container.get("env", [])
            if each["name"] == "MOORGATE_NATS_REPLICAS"
        }
        assert said == {str(servers)}


def test_neighbours_in_the_cluster_are_left_out_and_reached_at_the_port_of_their_address() -> None:
    values = {
        "anchore": {"url": "https://api.anchore.svc.cluster.local:9999"},
        "tenants": {
            "inline": {"a": {"url": "http://api.anchore-a.svc", "username": "a", "passwordFile": "a"}}
        },
        "nats": {
            "builtin": {"enabled": False},
            "url": "tls://nats.nats-a.svc:4333, tls://nats-0.nats.nats-b.svc.cluster.local:4333,tls://nats.example:4444",
        },
    }
    objects = tuple(Release(values=values).template())
    webhooks = yaml.safe_load(chart.named(objects, "ConfigMap", "moorgate-webhooks")["data"]["pods.yaml"])
    (by_name,) = webhooks["webhooks"][0]["namespaceSelector"]["matchExpressions"]
    assert {"anchore", "anchore-a", "nats-a", "nats-b"} <= set(by_name["values"])
    assert not {"nats", "example", "svc", "api"} & set(by_name["values"])
    egress = chart.named(objects, "NetworkPolicy", "moorgate-scanner")["spec"]["egress"]
    open_ports = {port["port"] for rule in egress for port in rule["ports"]}
    assert {9999, 8228, 4333, 4444, 4222, 53} <= open_ports


def test_targets_of_notifications_are_reached_at_the_port_of_their_address() -> None:
    targets = [
        {"name": "siem", "type": "webhook", "url": "https://siem.example:8443/hook"},
        {"name": "ops", "type": "slack", "urlFile": "slack-url"},
    ]
    values = {"anchore": {"url": "http://anchore:8228"}, "notify": {"inline": {"targets": targets}}}
    objects = tuple(Release(values=values).template())
    egress = chart.named(objects, "NetworkPolicy", "moorgate-audit-writer")["spec"]["egress"]
    assert [port["port"] for port in egress[-1]["ports"]] == [443, 80, 9093, 8443]


def test_labels_of_a_part_go_before_those_of_all() -> None:
    values = {
        "anchore": {"url": "http://anchore:8228"},
        "commonLabels": {"team": "all", "tier": "all"},
        "gateway": {"podLabels": {"team": "own"}},
        "bootstrap": {"podLabels": {"team": "own"}, "podAnnotations": {"a": "b"}},
        "monitoring": {
            part: {"enabled": True, "labels": {"team": "own"}}
            for part in ("podMonitor", "rules", "dashboard")
        },
    }
    objects = tuple(Release(values=values).template())
    jobs = [each for each in pod_templates(objects) if each.owner["kind"] == "Job"]
    assert len(jobs) == 3
    assert all(each.metadata["annotations"] == {"a": "b"} for each in jobs)
    found = [each.metadata["labels"] for each in (component(objects, "gateway"), *jobs)]
    made = of_kind(objects, "PodMonitor", "PrometheusRule", "ConfigMap")
    found += [
        each["metadata"]["labels"] for each in made if "component" not in str(each["metadata"]["labels"])
    ]
    assert len(found) == 7
    assert [(each["team"], each["tier"]) for each in found] == [("own", "all")] * len(found)


@each_set
def test_what_a_failed_job_said_can_be_read(values: str) -> None:
    """Its Pods stay: a container that is started again takes the log of the one before along in the end."""
    for each in pod_templates(rendered(values)):
        if each.owner["kind"] == "Job":
            assert each.spec["restartPolicy"] == "Never", each.name


def test_names_of_jobs_are_no_longer_than_a_label() -> None:
    values = {"anchore": {"url": "http://anchore:8228"}, "fullnameOverride": "a" * 40}
    names = [each["metadata"]["name"] for each in Release(values=values).template() if each["kind"] == "Job"]
    revision = len("1")
    assert len(names) == 3
    assert all(len(name) - revision + len("999999999") <= 63 for name in names), names


def test_off_without_quotes_means_off() -> None:
    values = {
        "anchore": {"url": "http://anchore:8228"},
        "policy": {"mode": False},
        "auditWriter": {"reports": False},
    }
    objects = tuple(Release(values=values).template())
    for part, name in (
        ("gateway", "MOORGATE_MODE"),
        ("audit-writer", "MOORGATE_MODE"),
        ("audit-writer", "MOORGATE_REPORTS"),
    ):
        env = chart.component(objects, part).containers()[0]["env"]
        assert {"name": name, "value": "off"} in env


def test_a_gateway_whose_node_is_gone_is_replaced_soon() -> None:
    """Also where a node's own taints are put up with: a list in the values replaces the list before it."""
    own = {"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}
    values = {"anchore": {"url": "http://anchore:8228"}, "gateway": {"tolerations": [own]}}
    tolerations = component(tuple(Release(values=values).template()), "gateway").spec["tolerations"]
    assert own in tolerations
    seconds = {each["key"]: each["tolerationSeconds"] for each in tolerations if each != own}
    assert seconds == {"node.kubernetes.io/not-ready": 30, "node.kubernetes.io/unreachable": 30}


@pytest.mark.parametrize("unsatisfiable", ["ScheduleAnyway", "DoNotSchedule"])
def test_gateways_can_be_kept_on_nodes_of_their_own(unsatisfiable: str) -> None:
    values = {"anchore": {"url": "http://anchore:8228"}, "gateway": {"nodeSpread": unsatisfiable}}
    constraints = component(tuple(Release(values=values).template()), "gateway").spec[
        "topologySpreadConstraints"
    ]
    (found,) = [each for each in constraints if each["topologyKey"] == "kubernetes.io/hostname"]
    assert (found["whenUnsatisfiable"], found["maxSkew"]) == (unsatisfiable, 1)
    assert found["matchLabelKeys"] == ["pod-template-hash"], "old and new Pods side by side are no skew"
    assert found["nodeTaintsPolicy"] == "Honor", "a node that is lost keeps nobody waiting"
