"""The chart's two webhook configurations on a real API server: which requests reach a gateway, and which are let pass unseen.

They are registered as an installation does it, by `moorgate webhooks apply` from the rendered ConfigMap, save that a URL stands
where the Service would: cluster addresses lead nowhere here. A counter answers at the secret path; "not sent" is proved by
what is sent afterwards.
"""

import asyncio
import copy
import secrets
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from aiohttp import web

from deploy.dev.helm import HelmError, Release
from deploy.dev.kubectl import Kubectl
from deploy.dev.registration import webhook_configurations
from services.cli import secrets as secrets_command
from services.cli import webhooks
from tests.support.api import STRATEGIC, Api
from tests.support.road import LABEL, until

ANCHORE = {"anchore": {"url": "http://anchore.test:8228"}}


def configurations(name: str, **values: Any) -> list[dict[str, Any]]:
    """Both, as the ConfigMap has them."""
    release = Release(name=name, namespace=name, values={**ANCHORE, "fullnameOverride": name, **values})
    found = next(
        each
        for each in release.template()
        if each["kind"] == "ConfigMap" and each["metadata"]["name"] == f"{name}-webhooks"
    )
    return [yaml.safe_load(found["data"][file]) for file in ("pods.yaml", "workloads.yaml")]


def by_url(configuration: dict[str, Any], url: str) -> dict[str, Any]:
    """The same, reached by a URL."""
    found = copy.deepcopy(configuration)
    for each in found["webhooks"]:
        path = each["clientConfig"].pop("service")["path"]
        each["clientConfig"]["url"] = f"{url}{path}"
    return found


@dataclass
class Counting:
    """A gateway that lets everything in, and counts."""

    secret: str = ""
    port: int = 0
    seen: Counter[str] = field(default_factory=Counter)

    async def answer(self, request: web.Request) -> web.Response:
        if request.match_info["secret"] != self.secret:
            return web.Response(status=404)
        if request.content_type != "application/json":
            return web.Response(status=415)
        asked = (await request.json())["request"]
        what = "/".join(filter(None, (asked["resource"]["resource"], asked.get("subResource"))))
        self.seen[
            f"{asked['operation']} {what} {asked['name'] or asked['object']['metadata'].get('name')}"
        ] += 1
        response = {"uid": asked["uid"], "allowed": True}
        return web.json_response(
            {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        )


@pytest.fixture
async def counting(tmp_path: Path) -> AsyncIterator[Counting]:
    """Serving, with an authority of its own in the folder."""
    authority, found = trustme.CA(), Counting()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    app = web.Application(client_max_size=8 << 20)
    app.router.add_post("/imagecheck/{secret}", found.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    found.port = int(runner.addresses[0][1])
    yield found
    await runner.cleanup()


@dataclass
class Watched:
    """A namespace that the registration looks at."""

    kubectl: Kubectl
    counting: Counting
    api: Api
    name: str
    options: dict[str, Any]
    """Of the command that registered it."""

    def path(self, resource: str, name: str = "") -> str:
        group = {"pods": "/api/v1", "cronjobs": "/apis/batch/v1", "jobs": "/apis/batch/v1"}.get(
            resource, "/apis/apps/v1"
        )
        return f"{group}/namespaces/{self.kubectl.namespace}/{resource}" + (f"/{name}" if name else "")

    async def change(self, resource: str, name: str, body: dict[str, Any]) -> bool:
        """Whether one change was sent; a controller's write between makes the API server try, and send, again."""
        plural, _, subresource = resource.partition("/")
        path = "/".join(filter(None, (self.path(plural, name), subresource)))
        before = self.count(resource, name)
        await self.api.ok("PATCH", path, body, content_type=STRATEGIC)
        is_sent = self.count(resource, name) > before
        await until(partial(self._is_cached, self.path(plural, name)), "the API server's cache has it", 30)
        return is_sent

    async def _is_cached(self, path: str) -> bool:
        """A change is first tried on what the cache holds: on an older object, the last change would be sent again."""
        stored, cached = [
            (await self.api.ok("GET", f"{path}{query}"))["metadata"]["resourceVersion"]
            for query in ("", "?resourceVersion=0")
        ]
        return bool(stored == cached)

    def count(self, resource: str, name: str, operation: str = "UPDATE") -> int:
        return self.counting.seen[f"{operation} {resource} {name}"]


@pytest.fixture
async def watched(
    kubectl: Kubectl, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Watched]:
    """Registered by the command, for one namespace."""
    namespace = kubectl.namespace
    monkeypatch.setenv("KUBECONFIG", str(kubectl.plane.kubeconfig()))
    monkeypatch.setenv("MOORGATE_NAMESPACE", namespace)
    name = f"hooks-{secrets.token_hex(3)}"
    await kubectl.ok("label", "namespace", namespace, f"{LABEL}={name}")
    await kubectl.ok("create", "secret", "generic", "ca", f"--from-file={tmp_path / 'ca.crt'}")
    assert await asyncio.to_thread(lambda: secrets_command.apply(webhook_path="path")) == 0
    counting.secret = await secret_of(kubectl)
    folder = tmp_path / "webhooks"
    folder.mkdir()
    only = {"webhooks": {"namespaceSelector": {"matchLabels": {LABEL: name}}}}
    for each in configurations(name, **only):
        content = by_url(each, f"https://127.0.0.1:{counting.port}")
        (folder / f"{each['metadata']['name']}.yaml").write_text(yaml.safe_dump(content))
    options: dict[str, Any] = {
        "file": folder,
        "ca_secret": "ca",
        "ca_key": "ca.crt",
        "path_secret": "path",
        "wait_for": "60s",
    }
    assert await asyncio.to_thread(lambda: webhooks.apply(**options)) == 0
    async with Api(kubectl.plane.kubeconfig()) as api:
        found = Watched(kubectl, counting, api, name, options)
        await in_force(found)
        yield found
    for kind in ("pods", "workloads"):
        await kubectl.ok("delete", "validatingwebhookconfiguration", f"{name}-{kind}")


async def secret_of(kubectl: Kubectl) -> str:
    template = "{{.data.secret | base64decode}}"
    return await kubectl.ok("get", "secret", "path", "-o", f"go-template={template}")


async def in_force(watched: Watched) -> None:
    """The API server has learnt of both."""

    async def both_seen() -> bool:
        for resource, manifest in (("pods", pod("probe")), ("deployments", deployment("probe"))):
            reply = await watched.api.send("POST", watched.path(resource), manifest, dry_run=True)
            assert reply.status == 201, reply.message
        return all(watched.count(each, "probe", "CREATE") for each in ("pods", "deployments"))

    await until(both_seen, "the registration is in force", 30)


def template(image: str = "one", **more: Any) -> dict[str, Any]:
    return {"containers": [{"name": "main", "image": image}], **more}


def pod(name: str) -> dict[str, Any]:
    init: dict[str, Any] = {"initContainers": [{"name": "first", "image": "init"}]}
    metadata = {"name": name, "finalizers": ["moorgate.test/kept"] if name == "deleted" else []}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template(**init)}


def deployment(name: str, kind: str = "Deployment") -> dict[str, Any]:
    labels = {"app": name}
    spec: dict[str, Any] = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": template()},
    }
    if kind == "StatefulSet":
        spec["serviceName"] = name
    if kind != "DaemonSet":
        spec["replicas"] = 0
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def job_spec() -> dict[str, Any]:
    return {"suspend": True, "template": {"spec": {**template(), "restartPolicy": "Never"}}}


def in_template(**spec: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": spec}}}


LABELLED = {"metadata": {"labels": {"x": "y"}}}
OTHER_IMAGE = {"containers": [{"name": "main", "image": "two"}]}


async def test_of_pods_only_images_matter(watched: Watched) -> None:
    await watched.api.ok("POST", watched.path("pods"), pod("web"))
    assert watched.count("pods", "web", "CREATE") == 1
    other_init = {"initContainers": [{"name": "first", "image": "init2"}]}
    debugger = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]}}

    assert not await watched.change("pods", "web", LABELLED)
    assert not await watched.change("pods", "web", {"spec": {"activeDeadlineSeconds": 600}})
    assert await watched.change("pods", "web", {"spec": OTHER_IMAGE})
    assert await watched.change("pods", "web", {"spec": other_init})
    assert await watched.change("pods/ephemeralcontainers", "web", debugger)
    assert not await watched.change("pods", "web", {"metadata": {"labels": {"x": "z"}}})
    await watched.api.ok("DELETE", watched.path("pods", "web"))
    assert not [each for each in watched.counting.seen if each.startswith("DELETE")]


async def test_of_a_pod_that_is_being_deleted_nothing_matters(watched: Watched) -> None:
    path = watched.path("pods", "deleted")
    await watched.api.ok("POST", watched.path("pods"), pod("deleted"))
    assert await watched.change("pods", "deleted", {"spec": OTHER_IMAGE})
    await watched.api.ok("DELETE", f"{path}?gracePeriodSeconds=0")
    still = await watched.api.ok("GET", path)
    assert still["metadata"]["deletionTimestamp"]
    third = {"spec": {"containers": [{"name": "main", "image": "three"}]}}
    assert not await watched.change("pods", "deleted", third)
    remove = [{"op": "replace", "path": "/metadata/finalizers", "value": []}]
    await watched.api.ok("PATCH", path, remove, content_type="application/json-patch+json")


async def test_of_workloads_only_images_matter(watched: Watched) -> None:
    await watched.api.ok("POST", watched.path("deployments"), deployment("web"))
    assert watched.count("deployments", "web", "CREATE") == 1
    volume = {"name": "models", "image": {"reference": "models:1"}}

    async def change(body: dict[str, Any]) -> bool:
        return await watched.change("deployments", "web", body)

    assert not await change(LABELLED)
    assert not await change({"spec": {"replicas": 1}})
    assert not await change({"spec": {"template": {"metadata": {"annotations": {"restarted": "now"}}}}})
    assert not await change(in_template(volumes=[{"name": "scratch", "emptyDir": {}}]))
    assert await change(in_template(**OTHER_IMAGE))
    assert await change(in_template(initContainers=[{"name": "first", "image": "init"}]))
    assert await change(in_template(volumes=[volume]))
    assert await change(in_template(volumes=[{"name": "models", "image": {"reference": "models:2"}}]))
    pulled = {"reference": "models:2", "pullPolicy": "Always"}
    assert not await change(in_template(volumes=[{"name": "models", "image": pulled}]))


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "ReplicaSet"])
async def test_every_workload_is_seen(watched: Watched, kind: str) -> None:
    plural = f"{kind.lower()}s"
    await watched.api.ok("POST", watched.path(plural), deployment("web", kind))
    assert watched.count(plural, "web", "CREATE") == 1
    assert not await watched.change(plural, "web", LABELLED)
    assert await watched.change(plural, "web", in_template(**OTHER_IMAGE))


async def test_jobs_and_cron_jobs_are_seen(watched: Watched) -> None:
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": job_spec()}
    await watched.api.ok("POST", watched.path("jobs"), job)
    assert watched.count("jobs", "once", "CREATE") == 1
    assert not await watched.change("jobs", "once", LABELLED)

    spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job_spec()}}
    cron = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "yearly"}, "spec": spec}
    await watched.api.ok("POST", watched.path("cronjobs"), cron)
    assert watched.count("cronjobs", "yearly", "CREATE") == 1
    assert not await watched.change("cronjobs", "yearly", {"spec": {"schedule": "0 0 2 1 *"}})
    assert await watched.change("cronjobs", "yearly", {"spec": {"jobTemplate": in_template(**OTHER_IMAGE)}})


async def test_a_pod_of_very_many_containers_costs_no_more_than_the_api_server_allows(
    watched: Watched,
) -> None:
    many = [
        {"name": f"c{number}", "image": f"registry.example/team/part-{number}:1.2.3"} for number in range(800)
    ]
    manifest = {**pod("many"), "spec": {"containers": many}}
    await watched.api.ok("POST", watched.path("pods"), manifest)
    assert not await watched.change("pods", "many", LABELLED)
    last = {"spec": {"containers": [{"name": "c799", "image": "two"}]}}
    assert await watched.change("pods", "many", last)


async def test_registering_again_writes_nothing(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert await asyncio.to_thread(lambda: webhooks.apply(**watched.options)) == 0
    assert capsys.readouterr().out.count("unchanged") == 2


def each_webhook(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [webhook for configuration in found for webhook in configuration["webhooks"]]


def test_what_the_values_say_is_what_is_registered() -> None:
    usual = configurations("moorgate")
    pods, *workloads = each_webhook(usual)
    assert (pods["failurePolicy"], pods["timeoutSeconds"]) == ("Fail", 10)
    assert {(each["failurePolicy"], each["timeoutSeconds"]) for each in workloads} == {("Ignore", 2)}
    for each in (pods, *workloads):
        assert each["sideEffects"] == "NoneOnDryRun"
        assert "objectSelector" not in each
        assert "caBundle" not in each["clientConfig"]
        assert left_out(each) == ["moorgate", "kube-system", "kube-node-lease", "kube-public"]

    expression = {"key": "unchecked", "operator": "DoesNotExist"}
    condition = {"name": "not-nodes", "expression": "!('system:nodes' in request.userInfo.groups)"}
    settings = {
        "failurePolicy": "Ignore",
        "timeoutSeconds": 5,
        "excludedNamespaces": ["storage", "kube-system"],
        "anchoreNamespace": "anchore",
        "natsNamespace": "nats",
        "namespaceSelector": {"matchLabels": {"team": "a"}, "matchExpressions": [expression]},
        "matchConditions": [condition],
    }
    pods, *workloads = each_webhook(configurations("moorgate", webhooks=settings))
    assert (pods["failurePolicy"], pods["timeoutSeconds"]) == ("Ignore", 5)
    for each in (pods, *workloads):
        assert left_out(each) == [
            "moorgate",
            "nats",
            "anchore",
            "kube-system",
            "kube-node-lease",
            "kube-public",
            "storage",
        ]
        assert each["namespaceSelector"]["matchLabels"] == {"team": "a"}
        assert expression in each["namespaceSelector"]["matchExpressions"]
        assert each["matchConditions"][-1] == condition
        assert len(each["matchConditions"]) == 3


def left_out(webhook: dict[str, Any]) -> list[str]:
    expression = webhook["namespaceSelector"]["matchExpressions"][0]
    assert (expression["key"], expression["operator"]) == ("kubernetes.io/metadata.name", "NotIn")
    values: list[str] = expression["values"]
    return values


def test_the_embedded_stack_registers_the_same(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("")
    ours = configurations("moorgate")
    theirs = webhook_configurations("moorgate", "https://127.0.0.1:1/imagecheck", tmp_path / "ca")
    for own, other in zip(ours, theirs, strict=True):
        assert own["metadata"]["name"] == other["metadata"]["name"]
        assert looked_at(own) == looked_at(other)
        same: Callable[[dict[str, Any]], set[Any]] = lambda each: {  # noqa: E731  once, for two
            (webhook["failurePolicy"], webhook["timeoutSeconds"], webhook["sideEffects"])
            for webhook in each["webhooks"]
        }
        assert same(own) == same(other)


def looked_at(configuration: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, operation)
        for webhook in configuration["webhooks"]
        for rule in webhook["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for operation in rule["operations"]
    }


@pytest.mark.parametrize(
    "values",
    [
        {"failurePolicy": "Maybe"},
        {"timeoutSeconds": 31},
        {"objectSelector": {}},
        {"namespaceSelector": {"matchExpressions": [{"key": "x", "operator": "Like"}]}},
    ],
    ids=str,
)
def test_a_value_that_is_none_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(HelmError, match="webhooks"):
        configurations("moorgate", webhooks=values)


def test_who_issues_says_how_the_authority_arrives() -> None:
    for each in configurations("moorgate"):
        assert each["metadata"]["labels"]["security.banzaicloud.com/inject-ca"] == "moorgate"
        assert "annotations" not in each["metadata"]
    manager = {"issuer": "cert-manager", "certManager": {"issuerName": "ca"}}
    for each in configurations("moorgate", tls=manager):
        assert "security.banzaicloud.com/inject-ca" not in each["metadata"]["labels"]
        assert each["metadata"]["annotations"] == {
            "cert-manager.io/inject-ca-from": "moorgate/moorgate-gateway"
        }
