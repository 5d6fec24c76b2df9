"""What the image is made of: known weaknesses, licences, and a bill of materials, all from uv.lock.

    python -m deploy.dev.supply_chain audit       # pip-audit over the locked packages; needs PyPI's own service, or OSV
    python -m deploy.dev.supply_chain licences    # writes docs/licences.md
    python -m deploy.dev.supply_chain sbom        # writes dist/sbom.cdx.json (CycloneDX 1.5)

Only what runs in the image counts, not what tests and linters need. Packages of the base image are the base's own business.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "uv.lock"
LICENCES = ROOT / "docs" / "licences.md"
SBOM = ROOT / "dist" / "sbom.cdx.json"
TOOLS = ROOT / ".cache" / "supply-chain"
"""pip-audit's own environment, from the lock: what it needs is no part of ours."""

ALLOWED = frozenset("Apache-2.0 BSD BSD-2-Clause BSD-3-Clause MIT MIT-0 MPL-2.0 PSF-2.0".split())
"""Licences that Moorgate's own (Apache 2.0) can be given out with. MPL 2.0 asks for its own files alone, which are unchanged."""

_NAMES = {
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "MIT License": "MIT",
}
"""What packages write, as SPDX writes it."""

NOT_AUDITED = (
    "supply-chain: NOT AUDITED: neither PyPI's service for known weaknesses nor OSV's can be reached from here.\n"
    "Nothing is known of the locked packages; run this again where one of the two is."
)
_SKIP, _LONGEST_NAME = "skip_reason", 60


def packages() -> dict[str, str]:
    """What the image holds besides Moorgate, by name: the closure of its dependencies in the lock, with versions."""
    locked = {each["name"]: each for each in tomllib.loads(LOCK.read_text())["package"]}
    found: dict[str, str] = {}
    waiting = ["moorgate"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = locked[name]["version"]
            waiting += [each["name"] for each in locked[name].get("dependencies", ())]
    del found["moorgate"]
    return dict(sorted(found.items()))


def licence(package: str) -> str:
    """As the installed package states it, in SPDX's words where they are known."""
    told = metadata.metadata(package)
    fields = [*(told.get_all("License-Expression") or ()), *(told.get_all("License") or ()), ""]
    stated = fields[0].strip()
    if not stated or "\n" in stated or len(stated) > _LONGEST_NAME:
        classifiers = [each for each in told.get_all("Classifier") or () if each.startswith("License ::")]
        stated = " OR ".join(_NAMES.get(each.rpartition(" :: ")[2], each) for each in classifiers)
    return _NAMES.get(stated, stated) or "not stated"


def is_allowed(expression: str) -> bool:
    """Of alternatives one is enough; of what counts together each must be allowed."""
    alternatives = expression.strip("()").split(" OR ")
    return any(all(each in ALLOWED for each in one.split(" AND ")) for one in alternatives)


def page() -> str:
    """docs/licences.md."""
    rows = "\n".join(f"| {name} | {licence(name)} |" for name in packages())
    return (
        "# Licences\n\n"
        "Moorgate is under the [Apache License 2.0](../LICENSE). Its image holds these Python packages, unchanged, as\n"
        "`uv.lock` pins them; each under the licence that it states itself. `make licences` makes this page, and a test\n"
        "holds it to the lock and to the list of licences in `deploy/dev/supply_chain.py`.\n\n"
        f"| package | licence |\n|---|---|\n{rows}\n"
    )


def bill() -> dict[str, Any]:
    """The bill of materials in CycloneDX: every package with its version, hashes and licence."""
    text = _uv("export", "--frozen", "--no-dev", "--no-emit-project", "--format", "cyclonedx1.5", "--quiet")
    found: dict[str, Any] = json.loads(text)
    for component in found["components"]:
        stated = licence(component["name"])
        component["licenses"] = [
            {"expression": stated}
            if is_allowed(stated) and stated != "BSD"
            else {"license": {"name": stated}}
        ]
    return found


def audit() -> int:
    """Known weaknesses: 0 none, 1 some. Says loudly where nobody could be asked."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    requirements = TOOLS / "requirements.txt"
    requirements.write_text(
        _uv("export", "--frozen", "--no-dev", "--no-emit-project", "--no-hashes", "--quiet")
    )
    _uv("sync", "--frozen", "--quiet", "--only-group", "supply-chain", UV_PROJECT_ENVIRONMENT=str(TOOLS))
    for service in ("pypi", "osv"):
        found = _audited(requirements, service)
        if found is not None:
            return _told(found)
    print(NOT_AUDITED, file=sys.stderr)
    return 0


def _audited(requirements: Path, service: str) -> list[dict[str, Any]] | None:
    """What the service knows of each package; None where it could not be asked of all.

    pip-audit itself takes a package that the service does not answer for as free of weaknesses.
    """
    command = [
        str(TOOLS / "bin" / "pip-audit"),
        "--requirement",
        str(requirements),
        "--disable-pip",
        "--no-deps",
    ]
    options = ["--vulnerability-service", service, "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=600, check=False)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        return None
    return None if not found or any(_SKIP in each for each in found) else found


def _told(found: list[dict[str, Any]]) -> int:
    weak = [(each, weakness) for each in found for weakness in each["vulns"]]
    for each, weakness in weak:
        fixes = ", ".join(weakness["fix_versions"]) or "none yet"
        print(f"{each['name']} {each['version']}: {weakness['id']} (fixed in: {fixes})")
    print(f"{len(found)} packages, {len(weak)} known weaknesses")
    return 1 if weak else 0


def _uv(*arguments: str, **environment: str) -> str:
    uv = shutil.which("uv") or str(ROOT / ".cache" / "uv" / "bin" / "uv")
    # An environment that happens to be active is not the one meant.
    inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return subprocess.run(
        [uv, *arguments],
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def main(command: str) -> int:
    """One of the three."""
    match command:
        case "audit":
            return audit()
        case "licences":
            LICENCES.write_text(page())
        case "sbom":
            SBOM.parent.mkdir(exist_ok=True)
            SBOM.write_text(json.dumps(bill(), indent=2) + "\n")
            print(f"{SBOM.relative_to(ROOT)}: {len(packages())} packages")
        case _:
            print(re.sub(r"\n{2,}.*", "", __doc__ or "", flags=re.DOTALL), file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
