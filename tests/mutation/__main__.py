"""`python -m tests.mutation [module …]`: every mutant of the pure modules against its module's own tests.

A mutant that lives is either a hole in the tests or changes no answer; the latter are listed, each with its
reason, in `equivalent.toml`. Fails for one that lives and is not listed, and for one listed and not found.

Each mutant runs in a fork of this process, in which pytest is loaded already and the project is not.
"""

import importlib
import importlib.abc
import importlib.machinery
import os
import resource
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType, ModuleType

import hypothesis
import pytest

from tests.mutation.mutants import Mutant, enums, mutants

ROOT = Path(__file__).parents[2]
MODULES = {
    "services/gateway/decision.py": "tests/gateway/test_decision.py",
    "shared/evidence.py": "tests/shared/test_evidence.py",
    "shared/whitelist.py": "tests/gateway/test_whitelist.py",
    "services/gateway/workloads.py": "tests/gateway/test_workloads.py",
    "services/gateway/incumbents.py": "tests/gateway/test_incumbents.py",
    "services/gateway/scan_rates.py": "tests/gateway/test_scan_rates.py",
    "services/gateway/deadlines.py": "tests/gateway/test_deadlines.py",
    "shared/policies.py": "tests/shared/test_policies.py",
    "shared/images.py": "tests/shared/test_images.py",
}
PYTEST = "-x -q --tb=no --assert=plain --noconftest -p no:cacheprovider -o timeout=20".split()
WITHOUT_GO = ["-k", "not go_library and not containerd"]
"""The Go library is not everywhere: the table it confirms must be enough."""

CPU_SECONDS = 30
"""A mutant that loops for ever is killed by the kernel."""

PRELOADED = "asyncio msgspec pytest_asyncio pytest_timeout re2 structlog.testing".split()
"""What most tests import: loaded once, before the forks."""


class Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from its mutant."""

    def __init__(self, module: str, code: CodeType) -> None:
        self._module = module
        self._code = code

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._module:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)


def main(chosen: list[str]) -> int:
    """The exit code: 1 where a mutant lives that should not."""
    os.chdir(ROOT)
    for name in PRELOADED:
        importlib.import_module(name)
    hypothesis.settings.register_profile(
        "mutation", derandomize=True, max_examples=50, database=None, deadline=None
    )
    hypothesis.settings.load_profile("mutation")
    listed = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text(encoding="utf-8"))
    known = enums(ROOT)
    wrong = 0
    for path in chosen or MODULES:
        began = time.monotonic()
        everything = list(mutants(ROOT / path, known))
        reasons: dict[str, str] = listed.get(path, {})
        alive: set[str] = set()
        for mutant in _survivors(path, everything):
            alive.add(mutant.name)
            if mutant.name not in reasons:
                _say(f"{path}:{mutant.line}: lives: {mutant.name}")
        for name in sorted(reasons.keys() - alive):
            _say(f"{path}: listed as equivalent, but killed or gone: {name}")
        killed, took = len(everything) - len(alive), time.monotonic() - began
        _say(f"{path}: {len(everything)} mutants, {killed} killed, {len(alive)} alive, {took:.0f} s")
        wrong += len(alive ^ reasons.keys())
    return 1 if wrong else 0


def _survivors(path: str, everything: Iterable[Mutant]) -> Iterator[Mutant]:
    """Those the tests do not notice; as many at a time as there are processors."""
    if _finished(_fork(path, None)) != 0:
        raise SystemExit(f"{MODULES[path]} fails without any mutant")
    running: dict[int, Mutant] = {}
    for mutant in everything:
        if len(running) >= (os.cpu_count() or 1):
            yield from _reaped(running)
        running[_fork(path, mutant.code)] = mutant
    while running:
        yield from _reaped(running)


def _reaped(running: dict[int, Mutant]) -> Iterator[Mutant]:
    child, status = os.wait()
    mutant = running.pop(child)
    if status == 0:
        yield mutant


def _finished(child: int) -> int:
    return os.waitpid(child, 0)[1]


def _fork(path: str, code: CodeType | None) -> int:
    child = os.fork()
    if child:
        return child
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    if code is not None:
        sys.meta_path.insert(0, Mutated(path.removesuffix(".py").replace("/", "."), code))
    answer = 1
    try:
        answer = int(pytest.main([*PYTEST, *WITHOUT_GO, MODULES[path]]))
    finally:
        os._exit(answer)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
