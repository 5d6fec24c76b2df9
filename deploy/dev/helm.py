"""Helm as people have it, for the chart's tests and `make chart`: the real command, of one pinned version.

In this order: the command that MOORGATE_HELM names; the user's cache; a build with Go from the pinned module in
`controlplane/helm` (a few minutes, once). Not whatever `helm` lies on PATH: its version would decide what passes.
Each call gets folders of its own for Helm's configuration, so that neither a person's repositories nor plugins
take part, and the cluster only where a kubeconfig is given. `python -m deploy.dev.helm ARGUMENTS` is Helm itself.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deploy.dev.binaries import Build, BuildError, provide_one
from deploy.dev.go import GoMissingError

HELM_VERSION = "4.3.1"

BUILD = Build(
    "helm",
    f"helm-{HELM_VERSION}",
    "helm",
    "helm.sh/helm/v4/cmd/helm",
    f"-X helm.sh/helm/v4/internal/version.version=v{HELM_VERSION}",
)

CHART = Path(__file__).parents[1] / "helm" / "moorgate"

KUBERNETES = "1.36.3"
"""What templates are rendered for, where no cluster is asked."""


class HelmError(RuntimeError):
    """Helm refused; the text is its own."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """One release of a chart: what is given to every command about it."""

    name: str = "moorgate"
    namespace: str = "moorgate"
    chart: Path = CHART
    kubeconfig: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    """Files of values, before `values`."""

    def lint(self) -> str:
        """What `helm lint --strict` says. Raises `HelmError`."""
        return self._with_values("lint", "--strict", str(self.chart), "--namespace", self.namespace)

    def template(self, *options: str) -> list[dict[str, Any]]:
        """The objects that the chart renders, hooks included. Raises `HelmError`."""
        text = self._with_values(
            "template", self.name, str(self.chart), "--namespace", self.namespace,
            "--kube-version", KUBERNETES, *options,
        )  # fmt: skip
        return [each for each in yaml.load_all(text, yaml.CSafeLoader) if each]

    def install(self, *options: str) -> str:
        """Raises `HelmError`."""
        return self._with_values(
            "install", self.name, str(self.chart), "--namespace", self.namespace, *options
        )

    def upgrade(self, *options: str) -> str:
        """Raises `HelmError`."""
        return self._with_values(
            "upgrade", self.name, str(self.chart), "--namespace", self.namespace, *options
        )

    def uninstall(self, *options: str) -> str:
        """Raises `HelmError`."""
        return run(
            "uninstall", self.name, "--namespace", self.namespace, *options, kubeconfig=self.kubeconfig
        )

    def notes(self) -> str:
        """What the chart tells whoever has installed it. Raises `HelmError`."""
        return run("get", "notes", self.name, "--namespace", self.namespace, kubeconfig=self.kubeconfig)

    def _with_values(self, *arguments: str) -> str:
        with tempfile.TemporaryDirectory(prefix="moorgate-helm-") as folder:
            given = Path(folder) / "values.yaml"
            given.write_text(yaml.safe_dump(dict(self.values)))
            files = (option for file in (*self.files, given) for option in ("--values", str(file)))
            return run(*arguments, *files, kubeconfig=self.kubeconfig)


def run(*arguments: str, kubeconfig: Path | None = None) -> str:
    """Helm's output; raises `HelmError` when it failed, `GoMissingError` or `BuildError` when it can't be had."""
    program = helm_command()
    with tempfile.TemporaryDirectory(prefix="moorgate-helm-") as folder:
        done = subprocess.run(
            [program, *arguments],
            env=_environment(folder, kubeconfig),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise HelmError(
            f"helm {' '.join(arguments[:2])}: {done.stderr.strip()}\n{done.stdout.strip()}".strip()
        )
    return done.stdout


def helm_command() -> Path:
    """The program; raises GoMissingError or BuildError."""
    given = os.environ.get("MOORGATE_HELM")
    return Path(given) if given else provide_one(BUILD)


def is_there() -> bool:
    """Whether the program can be had without building it."""
    return "MOORGATE_HELM" in os.environ or BUILD.target.exists()


def _environment(folder: str, kubeconfig: Path | None) -> dict[str, str]:
    """No repositories, plugins or cluster of whoever runs this."""
    own = {f"HELM_{kind}_HOME": str(Path(folder) / kind.lower()) for kind in ("CONFIG", "CACHE", "DATA")}
    nowhere = Path(folder) / "no-cluster"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
    return {**inherited, **own, "KUBECONFIG": str(kubeconfig or nowhere)}


def main(arguments: Iterable[str]) -> int:
    """Helm itself with these arguments and this environment; without any, only where it is."""
    try:
        program = helm_command()
    except (GoMissingError, BuildError) as error:
        print(error, file=sys.stderr)
        return 1
    given = list(arguments)
    if not given:
        print(program)
        return 0
    return subprocess.run([program, *given], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
