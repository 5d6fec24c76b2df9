"""Both clients say the same of the same images and bundles, over the simulator's two APIs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from deploy.dev.anchore import catalogue
from deploy.dev.anchore.settings import CATALOGUE
from services.scanner.anchore import Anchore, Evaluation
from services.scanner.anchore_v1 import AnchoreV1
from services.scanner.anchore_v2 import AnchoreV2
from services.scanner.calls import Calls
from services.scanner.metrics import ScannerMetrics
from shared import images
from shared.anchore import AnchoreHttp, AnchoreSettings, open_session
from shared.images import ImageReference
from shared.settings import Secret
from tests.support.anchore import Simulator, anchore, bundle, client, rule, selection
from tests.support.anchore_client import outcome

FILE = catalogue.load(CATALOGUE)
REFERENCES = sorted(
    {
        *(reference for entry in FILE.images for reference in entry.references),
        *(pattern.glob.replace("*", "app:1") for pattern in FILE.patterns),
        "registry.example/nothing/there:1",
        "unreachable.example/a:1",
    }
)

BUNDLES: list[dict[str, Any]] = [
    bundle(
        rule("vulnerabilities", "package", "WARN", package_type="all", severity_comparison=">="), name="warns"
    ),
    bundle(rule("always", "always"), name="stops"),
    bundle(rule("dockerfile", "effective_user", users="root", type="blacklist"), name="root"),
    bundle(rule("always", "always"), name="allows", whitelisted_images=[selection()]),
    bundle(name="denies", blacklisted_images=[selection()]),
    bundle(name="both", blacklisted_images=[selection()], whitelisted_images=[selection()]),
    bundle(
        name="narrow",
        mappings=[{**selection("docker.io"), "id": "m", "policy_ids": ["p"], "whitelist_ids": []}],
    ),
    bundle(
        rule("always", "always"),
        name="pardons",
        items=[{"id": "i", "gate": "always", "trigger_id": "*"}],
    ),
]


@asynccontextmanager
async def clients(simulator: Simulator) -> AsyncIterator[tuple[Anchore, Anchore]]:
    settings = AnchoreSettings(url=simulator.url, username="admin", password=Secret("foobar"))
    async with open_session(settings) as session:
        calls = Calls(AnchoreHttp(session, settings), ScannerMetrics(CollectorRegistry()))
        yield AnchoreV1(calls), AnchoreV2(calls)


async def test_the_same_of_every_image() -> None:
    async with anchore(honour_image_seconds=False) as simulator, clients(simulator) as (v1, v2):
        seen = set()
        for reference in map(images.parse, REFERENCES):
            await outcome(v1.add_image(reference))  # analysed from the next call on
            earlier, later = await outcome(v1.add_image(reference)), await outcome(v2.add_image(reference))
            assert earlier == later, reference
            seen.add(earlier.split()[0] + " " + earlier.split()[-2 if earlier.startswith("image") else -1])
            if not earlier.startswith("image"):
                continue
            image = await v2.add_image(reference)
            assert image == await v1.add_image(reference)
            for digest in {image.digest, image.list_digest}:
                assert await v1.image(digest) == await v2.image(digest)
            if not reference.digest:
                pinned = images.parse(f"{reference.name}@{image.list_digest}")
                assert await v1.add_image(pinned) == await v2.add_image(pinned)
        unknown = "sha256:" + "0" * 64
        assert await v1.image(unknown) is await v2.image(unknown) is None
    assert {"ScanFailed image_not_found", "ScanFailed registry_unavailable"} <= seen
    assert any(each.startswith("image") for each in seen)


async def test_the_same_of_every_image_under_every_bundle() -> None:
    kinds = set()
    async with anchore(honour_image_seconds=False) as simulator, clients(simulator) as (v1, v2):
        async with client(simulator) as api:
            for content in BUNDLES:
                async with api.post("/v1/policies", json=content) as response:
                    assert response.status == 200, await response.text()
        active = [[(each.bundle_id, each.is_active) for each in await api.bundles()] for api in (v1, v2)]
        assert sorted(active[0]) == sorted(active[1])
        names = [name for name, _ in active[0]]
        assert len(names) == len(BUNDLES) + 1
        for reference in map(images.parse, REFERENCES):
            if not (await outcome(v1.add_image(reference))).startswith("image"):
                continue
            image = await v1.add_image(reference)
            for name in names:
                both = [await said(api, image.digest, reference, name) for api in (v1, v2)]
                assert both[0] == both[1], (str(reference), name)
                kinds.add(kind(both[0]))
    assert kinds == {
        "ScanFailed analysis_failed",
        "pass mapped",
        "pass mapped with reasons",
        "pass unmapped",
        "fail mapped with reasons",
    }


async def test_the_same_of_what_cannot_be_checked() -> None:
    async with anchore(analysis_seconds=60) as simulator, clients(simulator) as (v1, v2):
        reference = images.parse("registry.example/bulk/a:1")
        await v1.add_image(reference)
        image = await v1.add_image(reference)
        assert image == await v2.add_image(reference)
        for digest, name in (
            (image.digest, "no-such-bundle"),
            (image.digest, (await v1.bundles())[0].bundle_id),
            ("sha256:" + "0" * 64, "no-such-bundle"),
        ):
            both = [await outcome(api.check(digest, reference, name)) for api in (v1, v2)]
            assert both[0] == both[1], (digest, name)
        simulator.engine.clock.advance(60)
        both = [await outcome(api.check(image.digest, reference, "no-such-bundle")) for api in (v1, v2)]
        assert both == ["ScanFailed bundle_unknown"] * 2


async def test_each_apis_own_copy_of_a_bundle_is_as_it_lists_it() -> None:
    """Verdicts are labelled by the copy's hash, and compared with the listed one's."""
    async with anchore() as simulator, clients(simulator) as apis:
        reference = images.parse("registry.example/bulk/a:1")
        for api in apis:
            image = await api.add_image(reference)
            [listed] = await api.bundles()
            found = await api.check(image.digest, reference, listed.bundle_id)
            added = ("active", "last_updated")
            assert {name: value for name, value in (found.content or {}).items() if name not in added} == {
                name: value for name, value in listed.content.items() if name not in added
            }


async def said(api: Anchore, digest: str, reference: ImageReference, bundle_id: str) -> Evaluation | str:
    """Without the bundle's copy, and by one name for the lists."""
    found = await outcome(api.check(digest, reference, bundle_id))
    if found.startswith("ScanFailed"):
        return found
    answer = await api.check(digest, reference, bundle_id)
    reasons = tuple(
        msgspec.structs.replace(
            each,
            trigger=each.trigger.replace("black", "deny").replace("white", "allow"),
            text=each.text.replace("bundle's", "policy's").replace("(x)", ""),
        )
        for each in answer.reasons
    )
    return msgspec.structs.replace(answer, content=None, reasons=reasons)


def kind(found: Evaluation | str) -> str:
    if isinstance(found, str):
        return found
    mapped = "mapped" if found.is_mapped else "unmapped"
    return f"{found.result.value} {mapped}" + (" with reasons" if found.reasons else "")
