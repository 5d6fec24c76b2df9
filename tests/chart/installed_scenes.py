"""What makes the services use each right they have, and what there is in the cluster before and after."""

import base64
import json
import secrets
import ssl
from typing import Any

import aiohttp

from deploy.dev.kubectl import Kubectl
from deploy.dev.story import GOOD
from tests.chart.installed import Installation
from tests.support.api import image_policy, only_in
from tests.support.kube import move_tag
from tests.support.road import pod, until

OWNERS = {
    "v1": ("Node", "ReplicationController"),
    "apps/v1": ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"),
    "batch/v1": ("CronJob", "Job"),
}
"""Whatever may control a Pod of Kubernetes' own."""

CVE = {"id": "CVE-2026-4711", "package": "openssl", "version": "1", "severity": "Critical"}


async def everything_that_rights_are_for(installation: Installation) -> None:
    """Each scene uses rights that the demo's story doesn't."""
    await a_policy_gets_its_condition(installation)
    await owners_of_every_kind_are_read(installation)
    await what_runs_turns_bad(installation)
    await a_namespace_is_met_before_it_is_known(installation)
    await the_page_is_read(installation)


async def a_policy_gets_its_condition(installation: Installation) -> None:
    kubectl = installation.kubectl("shop")
    policy = image_policy("nowhere", namespaceSelector=only_in(nowhere="yes"), mode="warn")
    await kubectl.create(policy)

    async def has_condition() -> Any:
        return (await kubectl.get("imagepolicy", "nowhere")).get("status", {}).get("conditions")

    await until(has_condition, "the policy has a condition", 30)


async def owners_of_every_kind_are_read(installation: Installation) -> None:
    """Pods that say they belong to one of each: the claim is checked, whatever comes of it."""
    kubectl = installation.kubectl("shop")
    before = {call for call in installation.calls() if call.verb == "get"}
    for version, kinds in OWNERS.items():
        for kind in kinds:
            claim = {
                "apiVersion": version,
                "kind": kind,
                "name": "claimed",
                "uid": f"{secrets.token_hex(4)}-0000-4000-8000-000000000000",
                "controller": True,
            }
            claiming = pod(f"of-a-{kind.lower()}", GOOD)
            claiming["metadata"]["ownerReferences"] = [claim]
            await kubectl.create(claiming)

    async def are_read() -> bool:
        resources = {f"{kind.lower()}s" for kinds in OWNERS.values() for kind in kinds}
        calls = {call for call in installation.calls() if call.verb == "get"} - before
        return resources <= {call.resource for call in calls if call.name == "claimed"}

    await until(are_read, "every claimed owner is looked for", 30)


async def what_runs_turns_bad(installation: Installation) -> None:
    """A flip, with its Events."""
    kubectl, image = installation.kubectl("shop"), "registry.example/bulk/flips:1"
    known = await installation.cluster.tell_anchore("preload", reference=image)
    move_tag(installation.cluster.plane, image, known["digest"])
    await kubectl.ok("create", "deployment", "flips", f"--image={image}")
    await _audit_is(kubectl, "replicaset-flips-", "admitted")
    await installation.cluster.tell_anchore("vulnerabilities", reference=image, vulnerabilities=[CVE])
    await _audit_is(kubectl, "replicaset-flips-", "degraded")

    async def is_told() -> bool:
        return any(
            "flips" in each["regarding"]["name"]
            for each in await kubectl.get("events.events.k8s.io")
            if "moorgate" in each.get("reportingController", "")
        )

    await until(is_told, "an Event tells of it", 30)


async def a_namespace_is_met_before_it_is_known(installation: Installation) -> None:
    """The gateway reads a namespace itself that its watch has not told it of: here one that isn't there at all."""
    kubectl = installation.kubectl()
    stored = await kubectl.get("secret", "moorgate-webhook-path")
    secret = base64.b64decode(stored["data"]["secret"]).decode()
    [gateway, *_] = await kubectl.get("pods", "-l", "app.kubernetes.io/component=gateway")
    request = {
        "uid": secrets.token_hex(8),
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "unheard-of",
        "operation": "CREATE",
        "userInfo": {"username": "nobody"},
        "dryRun": True,
        "object": {**pod("late", GOOD), "metadata": {"name": "late", "namespace": "unheard-of"}},
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    url = f"https://{gateway['status']['podIP']}:8443/imagecheck/{secret}"
    async with aiohttp.ClientSession() as session, session.post(url, json=review, ssl=False) as answer:
        assert answer.status == 200, await answer.text()
    wanted = ("namespaces", "get", "unheard-of")
    assert any((call.resource, call.verb, call.name) == wanted for call in installation.calls())


async def the_page_is_read(installation: Installation) -> None:
    """By somebody who may list the Audits of one namespace, and by nobody without a token."""
    kubectl = installation.kubectl("shop")
    await kubectl.ok("create", "serviceaccount", "reader")
    await kubectl.ok("create", "role", "readers", "--verb=list", "--resource=audits.security.banzaicloud.com")
    await kubectl.ok("create", "rolebinding", "readers", "--role=readers", "--serviceaccount=shop:reader")
    token = (await kubectl.ok("create", "token", "reader")).strip()
    service = await installation.kubectl().get("service", "moorgate-page")
    trusted = ssl.create_default_context()
    installation.authority.configure_trust(trusted)
    url = f"https://{service['spec']['clusterIP']}"
    named: dict[str, Any] = {
        "ssl": trusted,
        "server_hostname": f"moorgate-page.{installation.cluster.namespace}.svc",
    }
    async with aiohttp.ClientSession() as session:
        reader = {"Authorization": f"Bearer {token}"}
        async with session.get(f"{url}/audits", headers=reader, **named) as answer:
            text = await answer.text()
            assert answer.status == 200, text
        assert "replicaset-flips-" in text
        async with session.get(f"{url}/audits", allow_redirects=False, **named) as answer:
            assert "replicaset-flips-" not in await answer.text()


async def the_authority_is_made_anew(installation: Installation) -> None:
    """Somebody deletes the gateways' Secret: they make another authority, and the API server is told to trust it.

    The leaf of it is a minute later; a gateway that starts meanwhile waits for it. So this comes last.
    """
    kubectl = installation.kubectl()
    await kubectl.ok("delete", "secret", "moorgate-gateway-tls")

    async def is_published() -> bool:
        return any(
            call.resource == "validatingwebhookconfigurations"
            and call.verb == "patch"
            and "gateway" in call.account
            for call in installation.calls()
        )

    await until(is_published, "the new authority is published", 60)


async def secrets_are_harmed(installation: Installation) -> None:
    """The next upgrade makes one anew and mends the other."""
    kubectl = installation.kubectl()
    await kubectl.ok("delete", "secret", "moorgate-nats-tls")
    change = {"data": {"url": None}}
    await kubectl.ok("patch", "secret", "moorgate-anchore", "--type=merge", "-p", json.dumps(change))


async def what_is_left(installation: Installation) -> set[str]:
    """Every object of the release's namespace and of the whole cluster, but what comes and goes by itself."""
    kubectl = installation.kubectl()
    found: set[str] = set()
    for is_namespaced in ("true", "false"):
        kinds = await kubectl.ok(
            "api-resources", "--verbs=list", f"--namespaced={is_namespaced}", "-o", "name"
        )
        wanted = ",".join(
            kind for kind in kinds.split() if not kind.startswith(("events", "componentstatuses"))
        )
        found |= set((await kubectl.ok("get", wanted, "-o", "name", "--ignore-not-found")).split())
    return {each for each in found if not each.startswith(("namespace/", "apiservice"))}


async def _audit_is(kubectl: Kubectl, prefix: str, state: str) -> None:
    async def is_so() -> bool:
        return any(
            each["metadata"]["name"].startswith(prefix) and each.get("status", {}).get("state") == state
            for each in await kubectl.get("audits")
        )

    await until(is_so, f"the Audit {prefix}… is {state}", 60)
