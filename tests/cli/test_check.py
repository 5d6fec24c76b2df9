"""`moorgate check` against gateways, scanners and the Anchore simulator: verdicts, scans under way, and nobody to ask."""

import re
import secrets

import pytest

from deploy.dev.ports import free_port
from tests.support.command_line import CommandLine
from tests.support.road import WatchedRoad

pytestmark = pytest.mark.cluster

GOOD, BAD = "nginx:1.25", "registry.example/bad/checked:1"


async def test_images_pass_or_fail_finding_by_finding(moorgate: CommandLine) -> None:
    good = await moorgate.ok("check", GOOD)
    assert good.stdout.startswith("docker.io/library/nginx:1.25  PASSES\n")
    both = await moorgate("check", GOOD, BAD)
    assert both.code == 1
    assert f"{BAD}  FAILS\n" in both.stdout
    assert "  gate vulnerabilities\n    stop  package: " in both.stdout
    shown = (await moorgate("check", GOOD, BAD, "-o", "json")).json()
    assert [each["image"] for each in shown] == [GOOD, BAD]
    assert [each["answer"]["outcome"] for each in shown] == ["pass", "fail"]
    assert shown[1]["answer"]["verdict"]["reasons"][0]["action"] == "stop"


async def test_an_unknown_image_is_scanned_while_one_waits(road: WatchedRoad, moorgate: CommandLine) -> None:
    image = f"registry.example/bulk/check-{secrets.token_hex(4)}:1"
    known = await moorgate("check", image, "--wait", "0")
    assert known.code == 3
    assert "IS BEING SCANNED" in known.stdout
    found = await moorgate.ok("check", image, "--wait", "60s")
    assert f"{image}  PASSES" in found.stdout
    assert await road.calls("check", image) == 1


async def test_progress_is_shown_while_an_image_is_analysed(road: WatchedRoad, moorgate: CommandLine) -> None:
    image = f"registry.example/bulk/slow-{secrets.token_hex(4)}:1"
    await road.tell_anchore("push", reference=image, content={"analysis_seconds": 4})
    found = await moorgate.ok("check", image, "--wait", "90s")
    assert f"{image}  PASSES" in found.stdout
    assert re.match(rf"{re.escape(image)}: being scanned \(\d+s, sha256:", found.stderr), found.stderr


async def test_without_a_verdict_it_says_why(moorgate: CommandLine) -> None:
    unknown = await moorgate("check", "registry.example/missing/nothing:1")
    assert unknown.code == 3
    assert "HAS NO VERDICT\n  image_not_found: " in unknown.stdout
    tenant = await moorgate("check", GOOD, "--tenant", "nobody")
    assert tenant.code == 3
    assert "tenant" in tenant.stdout
    bundle = await moorgate("check", GOOD, "--bundle", "nothing")
    assert bundle.code == 3
    assert "bundle_unknown" in bundle.stdout


async def test_each_trouble_is_one_line(road: WatchedRoad, moorgate: CommandLine) -> None:
    nobody = f"nats://127.0.0.1:{free_port()}"
    await moorgate.refuses(
        (2, "name an image", ("check",)),
        (2, "is no image reference", ("check", "nginx:::")),
        (2, "--wait is 'long'", ("check", GOOD, "--wait", "long")),
        (2, "--nats-url must be", ("check", GOOD, "--nats-url", "nonsense://x")),
        (2, "--nats-ca-file: cannot read", ("check", GOOD, "--nats-ca-file", "/nowhere")),
        (3, f"nats is away: it does not answer at {nobody}", ("check", GOOD, "--nats-url", nobody)),
        (3, "does not accept the user or the password", ("check", GOOD, "--nats-user", "nobody")),
    )
    unsafe = {name: value for name, value in moorgate.environment.items() if name != "MOORGATE_NATS_CA_FILE"}
    await CommandLine(unsafe).refuses((3, "has a certificate that is not trusted", ("check", GOOD)))
    scanner = moorgate.given(**road.nats.settings("scanner"))
    said = "may not ask on moorgate.v1.verdict.default"
    await scanner.refuses((3, said, ("check", GOOD, "--wait", "0")))
