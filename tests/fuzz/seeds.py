"""What fuzzing starts from: good inputs of every kind, what is known to be nasty, and all that has ever found something.

Beside what stands here these are the golden messages, and, where they lie beside the repository, captured
AdmissionReviews and recorded answers of a real Anchore.
"""

import json
from pathlib import Path
from typing import Any

from services.gateway.outbox import records
from tests.fuzz import answers
from tests.fuzz.targets import ALL, TARGETS
from tests.support import recordings
from tests.support.builders import BUNDLE, DIGEST, PINNED, TAG, holder, pod, review

GOLDEN = Path(__file__).parents[1] / "contracts" / "golden"
SAMPLES = Path(__file__).parents[2].parent / "shared" / "admission-samples"
DEEP = 100_000
"""Brackets: far beyond any stack."""

FINDINGS: dict[str, tuple[bytes, ...]] = {
    # More patterns than one automaton takes, bad values of YAML tags: see the tests of these modules.
    "policies": (b"a: !!bool maybe", b"a: !!int ''", b"a: !!timestamp x", b"!!map [1]", b"a: 2001-99-99"),
    "tenants_file": (b"tenants: !!bool maybe", b"tenants: {a: !!float ''}"),
    "bootstrap_file": (b"account: !!timestamp x", b"waitFor: !!int ''"),
    "notify": (b"targets: !!map [1]",),
    "webhooks": (b"!!bool maybe", b"!!int ''"),
    "settings": (b"MOORGATE_ANCHORE_PASSWORD=\xff", b"MOORGATE_PASS_TTL=99999999999999h"),
}
"""Inputs that once did what a target forbids; each is tried in every test run."""


def of(target: str) -> list[bytes]:
    """The seeds of one target, or of all together."""
    if target == ALL:
        return [bytes([number]) + seed for number, name in enumerate(TARGETS) for seed in of(name)]
    return [*_MAKE[target](), *FINDINGS.get(target, ())]


def _admissions() -> list[bytes]:
    good = [
        review(pod("nginx:1", "bad:1", "odd:1", labels={"release": "web"})),
        review(pod(PINNED), dryRun=True, version="v1beta1"),
        review(holder("CronJob", "bad:1"), kind="CronJob"),
        review(pod("nginx:1", "bad:1"), operation="UPDATE", oldObject=pod("nginx:1")),
        review(pod("\u202e\x1b[2J", "a\nb", "*.>", "r/../x", "x" * 3000)),
    ]
    body = json.dumps(good[0]).encode()
    nasty = [
        b"[" * DEEP,
        b'{"request":' * DEEP,
        body.replace(b'"oldObject": null', b'"oldObject": ' + b"[" * DEEP + b"]" * DEEP),
        body.replace(b"{", b'{"kind": "x", "uid": 1, ', 1),
        body.replace(b'"dryRun": false', b'"dryRun": ' + b"9" * 5000),
        body.replace(b'"dryRun": false', b'"dryRun": 1e999'),
        body.replace(b'"dryRun": false', b'"dryRun": NaN'),
        body.replace(b"nginx", b"ng\xff\xfex"),
        body.replace(b"nginx", b"\\ud800"),
        b"\xef\xbb\xbf" + body,
    ]
    return [*(json.dumps(each).encode() for each in good), *nasty, *_files(SAMPLES)]


def _messages() -> list[bytes]:
    return [*_files(GOLDEN), b"[" * DEEP, b"null", b'{"type":"moorgate.v2.verdict"}', b"\xff"]


def _questions() -> list[bytes]:
    asked = {"type": "moorgate.v1.verdict-request", "image": "nginx:1", "timeoutSeconds": 0}
    tenants = (b"default", b"other", b"a.b", b"*", b"")
    bodies = (json.dumps(asked).encode(), json.dumps({**asked, "image": "*.>"}).encode(), b"{}")
    return [tenant + b"\0" + body for tenant in tenants for body in bodies]


def _answers(record: dict[str, Any], check: Any, policies: list[Any]) -> list[bytes]:
    listed: Any = [record] if isinstance(check, list) else record
    bodies = {"add_image": listed, "image": listed, "check": check, "bundles": policies}
    errors = [
        {"message": "cannot fetch image digest/manifest from registry", "httpcode": 404, "detail": {}},
        {"message": "x" * 5000, "detail": {"error_codes": ["REGISTRY_PERMISSION_DENIED", 1, None]}},
        {"detail": "no active policy", "title": "Not Found"},
    ]
    good = [answers.input_of(name, 200, json.dumps(body).encode()) for name, body in bodies.items()]
    bad = [
        answers.input_of(name, status, json.dumps(error).encode())
        for name, status, error in zip(answers.OPERATIONS, (404, 400, 500), errors, strict=False)
    ]
    deep = [answers.input_of("bundles", 200, _deep(policies, levels)) for levels in (500, 900, DEEP)]
    recorded = [
        answers.input_of("check", 200, json.dumps(each.response["body"]).encode())
        for each in recordings.load()
        if "check-" in each.name and each.response["body"]
    ]
    return [*good, *bad, *deep, *recorded]


def _deep(policies: list[Any], levels: int) -> bytes:
    return json.dumps(policies).encode().replace(b'"deep"', b"[" * levels + b"]" * levels)


def _v1() -> list[bytes]:
    record = {
        "imageDigest": DIGEST,
        "parentDigest": DIGEST,
        "analysis_status": "analyzed",
        "image_detail": [{"fulltag": TAG}],
    }
    header = ["Gate", "Trigger", "Check_Output", "Gate_Action", "Trigger_Id", "Whitelisted"]
    rows = [["vulnerabilities", "package", "CVE", "stop", "id", False], [1, None, 10**40, "warn", [], {}]]
    result = {
        "final_action": "stop",
        "final_action_reason": "policy_evaluation",
        "matched_mapping_rule": {"name": "default"},
        "result": {"image": {"result": {"header": header, "rows": rows}}, "policy_data": []},
    }
    detail = {"result": result, "policy": {"id": BUNDLE, "x": 1}}
    check = [{DIGEST: {TAG: [{"status": "fail", "policyId": BUNDLE, "detail": detail}]}}]
    policies = [{"policyId": BUNDLE, "active": True, "policybundle": {"id": BUNDLE, "rules": "deep"}}]
    return _answers(record, check, policies)


def _v2() -> list[bytes]:
    record = {
        "image_digest": DIGEST,
        "parent_digest": DIGEST,
        "analysis_status": "analyzed",
        "image_detail": [{"full_tag": TAG}],
    }
    finding = {"gate": "g", "trigger": "t", "action": "STOP", "message": "CVE", "trigger_id": "i"}
    found = {
        "status": "fail",
        "final_action_reason": "policy_evaluation",
        "image_mapped_to_rule": True,
        "evaluation_problems": [{"severity": "error", "problem_type": "p", "details": "d"}],
        "details": {"findings": [finding], "policy": {"id": BUNDLE}},
    }
    check = {"policy_id": BUNDLE, "image_digest": DIGEST, "evaluated_tag": TAG, "evaluations": [found]}
    policies = [{"policy_id": BUNDLE, "active": True, "policy": {"id": BUNDLE, "rules": "deep"}}]
    return _answers(record, check, policies)


def _notices() -> list[bytes]:
    inner = {"subscription_key": TAG, "userId": "admin", "curr_eval": [DIGEST], "last_eval": {"digest": "x"}}
    envelope = {"data": {"notification_type": "tag_update", "notification_payload": inner}, "queueId": "q"}
    event = {"event": {"resource": {"id": DIGEST, "type": "image_digest", "user_id": "a"}}}
    return [json.dumps(each).encode() for each in (envelope, event, inner)] + [b"[" * DEEP, b"{}"]


def _outbox() -> list[bytes]:
    """Read as it stands (0), after a good header (1), as bodies of good records (2): see tests/fuzz/files.py."""
    bodies = [
        b"D\0" + json.dumps({"type": "admission.decided.v1", "id": name, "namespace": "shop"}).encode()
        for name in ("a", "b", "c")
    ]
    first = len(records.header())
    acknowledged = b"A" + first.to_bytes(4, "little")
    framed = [records.framed(each) for each in (*bodies, acknowledged)]
    whole = records.header() + b"".join(framed)
    newer = whole.replace(b"\x01\x00", b"\x02\x00", 1)
    return [
        b"",
        b"\0",
        whole,
        newer,
        whole[:-3],
        whole.replace(b'"b"', b'"x"'),
        b"\1" + b"".join(framed) + records.MARKER * 3,
        b"\1" + framed[0][:20] + framed[1],
        b"\2" + records.MARKER.join([*bodies, acknowledged, b"", b"D", b"D\xff", b"A\1", b"?new kind"]),
        b"\2" + bodies[0].replace(b"shop", b"a.>\\r\\n"),
        b"\2" + bodies[0].replace(b"admission", b"\xd2\x89\xce"),
        b"\2" + bodies[0].replace(b'"shop"', b"[" * DEEP),
    ]


def _images() -> list[bytes]:
    texts = (
        "nginx", TAG, PINNED, "r.example:5000/a/b:1", f"a@{DIGEST}", "[::1]:5000/a", "A_b.c/d", "localhost/x",
        "a..b/c", "a/../b", "*.>", "a b", "a\nb", "a\x00b", "-a", "a__b", "a:" + "t" * 128, "x/" * 200 + "y",
        "index.docker.io/nginx", "\u202enginx", "a" * 64, "http://a/b", "a%2fb", "a?b", "a#b", "a\r\nX: y",
    )  # fmt: skip
    return [text.encode() for text in texts] + [b"\xff", b"a-" * 500, b"a." * 500 + b"/b"]


def _patterns() -> list[bytes]:
    patterns = (
        r"web-.*",
        "(a*)*b",
        "(a|a)*$",
        r"\C",
        "a{1000}",
        "(?i)É",
        r"\pL+",
        "[[:alpha:]]",
        "(",
        "x{1001}",
        "",
    )
    return [f"{each}\0{sought}".encode() for each in patterns for sought in ("web", "a" * 253, "É")]


def _globs() -> list[bytes]:
    globs = (
        "*",
        "docker.io/*",
        "*a" * 40,
        "[a-z]*" * 60,
        "[!]]",
        "[z-a]",
        "[[:x",
        "?" * 500,
        "\\",
        "*?" * 200,
    )
    return [f"{each}\0{sought}".encode() for each in globs for sought in (TAG, "a" * 1000)]


def _settings() -> list[bytes]:
    gateway = (
        "MOORGATE_PATH_SECRET=s\nMOORGATE_TLS_CERT_FILE=a\nMOORGATE_MAX_WAIT=3s\nMOORGATE_SCAN_RATE=50/min"
    )
    scanner = "MOORGATE_ANCHORE_URL=http://a:1\nMOORGATE_ANCHORE_PASSWORD=p\nMOORGATE_PASS_TTL=6h"
    other = "MOORGATE_NATS_URL=nats://a:1,nats://b:2\nMOORGATE_LISTEN=[::1]:1\nMOORGATE_MODE=warn\n3=x\n17=1"
    return [text.encode() for text in (gateway, scanner, other, f"{gateway}\n{scanner}\n{other}")]


def _policies() -> list[bytes]:
    policy = (
        "apiVersion: security.banzaicloud.com/v1alpha1\nkind: ImagePolicy\nmetadata: {name: a}\nspec:\n"
        "  priority: 1\n  mode: warn\n  images: ['docker.io/*']\n"
        "  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}\n"
    )
    return [policy.encode(), f"{policy}---\n{policy}".encode(), *_yaml()]


def _tenants() -> list[bytes]:
    file = (
        "tenants:\n  team-a: {url: 'http://a:1', username: u, password: p, api: v2, account: x, bundle: b}\n"
    )
    return [file.encode(), file.replace("password: p", "passwordFile: nowhere").encode(), *_yaml()]


def _bootstrap() -> list[bytes]:
    file = (
        "anchore: {url: 'http://a:1', username: admin, passwordFile: file.yaml}\nsecret: {namespace: a, name: b}\n"
        "bundles: {predefined: all, active: deny_all}\nregistries: [{namespace: a, name: b}]\nwaitFor: 10m\n"
    )
    return [file.encode(), b"{}", *_yaml()]


def _notify() -> list[bytes]:
    file = (
        "cluster: c\ntargets:\n- {name: a, type: slack, url: 'http://a/b', on: [fail]}\n"
        "- {name: b, type: webhook, url: 'http://a/b', giveUpAfter: 1h, namespaces: ['a*']}\n"
        "- {name: c, type: alertmanager, url: 'http://a/b', labels: {x: y}, firesFor: 1h}\n"
    )
    return [file.encode(), *_yaml()]


def _webhooks() -> list[bytes]:
    manifest = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "a"},
        "webhooks": [{"name": "a.b.c", "clientConfig": {"service": {"namespace": "a", "name": "b"}}}],
    }
    return [json.dumps(manifest).encode(), *_yaml()]


def _yaml() -> list[bytes]:
    """What YAML itself can do to whoever reads it."""
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 8)
    )
    texts = (
        bomb,
        "&a [*a]",
        "a: &a {<<: *a}",
        "[" * 1500,
        "- " * 1500,
        "a: b: c",
        "a: 1\na: 2",
        "!!python/name:os.system x",
    )
    return [text.encode() for text in texts] + [b"\xff", b"\x00", b"a: \x1b", b"? [a]\n: b"]


def _files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.json"))]


_MAKE = {
    "admission": _admissions,
    "message": _messages,
    "bucket": _messages,
    "decided": _messages,
    "flip": _messages,
    "question": _questions,
    "notice": _notices,
    "anchore_v1": _v1,
    "anchore_v2": _v2,
    "outbox": _outbox,
    "image": _images,
    "pattern": _patterns,
    "glob": _globs,
    "settings": _settings,
    "policies": _policies,
    "tenants_file": _tenants,
    "bootstrap_file": _bootstrap,
    "notify": _notify,
    "webhooks": _webhooks,
}
