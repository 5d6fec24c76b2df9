"""The five bundles decide as their names say: each over the simulator's catalogue, in the format of each API."""

from pathlib import Path
from typing import Any

import pytest

from deploy.dev.anchore.catalogue import Content, Vulnerability
from services.cli.bootstrap import formats
from services.cli.bootstrap.bundles import PREDEFINED, predefined
from shared.anchore import AnchoreApi
from tests.integration.test_anchorecli import CommandLine, program
from tests.support.anchore import Simulator, anchore, client

__all__ = ["program"]

LOW, MEDIUM = "docker.io/library/nginx:1.25", "docker.io/library/postgres:15"
CRITICAL_NO_USER, CRITICAL_ROOT = "docker.io/library/debian:10", "registry.example/shop/legacy:1.0"
NO_USER, ROOT = "docker.io/library/alpine:3.19", "registry.example/team/root:1.0"
NUMBER, SSH_ROOT = "registry.example/team/nonroot:1.0", "registry.example/team/sshd:1.0"
HIGH, NO_FEED = "registry.example/made/high:1", "quay.io/prometheus/busybox:latest"
WITH_GROUP, USER_0 = "registry.example/made/group:1", "registry.example/made/zero:1"

FAILS = {
    "allow_all_and_warn": set[str](),
    "reject_critical": {CRITICAL_NO_USER, CRITICAL_ROOT},
    "reject_high": {CRITICAL_NO_USER, CRITICAL_ROOT, HIGH},
    "block_root": {CRITICAL_NO_USER, CRITICAL_ROOT, NO_USER, ROOT, SSH_ROOT, WITH_GROUP, USER_0},
    "deny_all": {
        *(LOW, MEDIUM, CRITICAL_NO_USER, CRITICAL_ROOT, NO_USER, ROOT),
        *(NUMBER, SSH_ROOT, HIGH, NO_FEED, WITH_GROUP, USER_0),
    },
}
IMAGES = sorted(FAILS["deny_all"])


def fill(simulator: Simulator) -> None:
    finding = Vulnerability(id="CVE-2026-1", package="bash", version="5", severity="High")
    made = {HIGH: "USER 1000", WITH_GROUP: "USER root:root", USER_0: "USER 0"}
    for reference, user in made.items():
        content = Content(
            dockerfile=f"FROM scratch\n{user}\n", vulnerabilities=(finding,) if reference == HIGH else ()
        )
        simulator.add_image(reference, content)
    for reference in IMAGES:
        simulator.preload(reference)


async def judged(session: Any, simulator: Simulator, api: str, bundle: str, image: str) -> tuple[str, str]:
    """Status and final action."""
    query = {"tag": image, "detail": "true"}
    query["policyId" if api == "v1" else "policy_id"] = bundle
    async with session.get(f"/{api}/images/{simulator.image(image).digest}/check", params=query) as response:
        body = await response.json()
        assert response.status == 200, body
    if api == "v1":
        [[found]] = body[0][simulator.image(image).digest].values()
        return found["status"], found["detail"]["result"]["final_action"]
    [found] = body["evaluations"]
    return found["status"], found["final_action"]


@pytest.mark.parametrize("api", ["v1", "v2"])
async def test_each_bundle_decides_as_its_name_says(api: str) -> None:
    async with anchore(apis=(api,)) as simulator, client(simulator) as session:
        fill(simulator)
        for bundle in PREDEFINED:
            document = formats.write(predefined(bundle), AnchoreApi(api))
            async with session.post(f"/{api}/policies", json=document) as response:
                assert response.status == 200, await response.text()
            results = {image: await judged(session, simulator, api, bundle, image) for image in IMAGES}
            assert {image for image, (status, _) in results.items() if status == "fail"} == FAILS[bundle]
            if bundle == "allow_all_and_warn":
                silent = {image for image, (_, action) in results.items() if action != "warn"}
                assert silent == set()


async def test_nothing_but_a_finding_makes_the_mildest_bundle_warn() -> None:
    async with anchore() as simulator, client(simulator) as session:
        clean = "registry.example/made/clean:1"
        simulator.add_image(clean, Content(dockerfile="FROM x\nUSER 1\nHEALTHCHECK CMD true\n"))
        simulator.preload(clean)
        document = formats.write(predefined("allow_all_and_warn"), AnchoreApi.V1)
        async with session.post("/v1/policies", json=document) as response:
            assert response.status == 200
        assert await judged(session, simulator, "v1", "allow_all_and_warn", clean) == ("pass", "go")


async def test_anchores_own_command_line_takes_each(program: Path) -> None:
    folder = Path(__file__).parents[3] / "services" / "cli" / "bundles"
    async with anchore() as simulator:
        cli = CommandLine(program, simulator)
        for bundle in PREDEFINED:
            added = await cli.run("policy", "add", str(folder / f"{bundle}.json"))
            assert (added.code, f"Policy ID: {bundle}" in added.text) == (0, True), added
