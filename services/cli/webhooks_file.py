"""The webhook configurations as the chart writes them, before they know whom to trust and by which path.

They are kept as they were written: the file is the chart's business, and a field that this version does not know
goes to the API server all the same. Checked is what would lock a cluster up: a webhook that fails closed must say where
its gateway is. Each fault is one line that names the file.
"""

import copy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from shared import yaml_files
from shared.errors import BadSetting

API_VERSION, KIND = "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"
HTTPS = 443
FAIL = "Fail"


class Target(msgspec.Struct, frozen=True):
    """Where the API server calls."""

    host: str
    port: int
    path: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class WantedConfiguration(msgspec.Struct, frozen=True):
    """One configuration of the file."""

    content: dict[str, Any]

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.content["metadata"]["name"])

    @property
    def fails_closed(self) -> bool:
        """Whether a gateway that cannot be reached holds anything up; `Fail` is Kubernetes' own default."""
        return any(each.get("failurePolicy", FAIL) == FAIL for each in self.content["webhooks"])

    @property
    def webhook_names(self) -> set[str]:
        """Of its webhooks."""
        return {each["name"] for each in self.content["webhooks"]}

    @property
    def targets(self) -> set[Target]:
        """Where its webhooks are served."""
        return {_target(each["clientConfig"]) for each in self.content["webhooks"]}

    def with_path(self, secret: str) -> "WantedConfiguration":
        """The secret at the end of each path."""
        content = copy.deepcopy(self.content)
        for client in (each["clientConfig"] for each in content["webhooks"]):
            if "url" in client:
                client["url"] = f"{client['url'].rstrip('/')}/{secret}"
            else:
                service = client["service"]
                service["path"] = f"{service.get('path', '').rstrip('/')}/{secret}"
        return WantedConfiguration(content)

    def with_trust(
        self, bundles: dict[str, str], owners: list[dict[str, str]], version: str
    ) -> dict[str, Any]:
        """The object to apply: `caBundle` for each webhook by its name, owners, and the version that was read."""
        content = copy.deepcopy(self.content)
        for each in content["webhooks"]:
            each["clientConfig"]["caBundle"] = bundles[each["name"]]
        content["metadata"]["ownerReferences"] = owners
        if version:
            content["metadata"]["resourceVersion"] = version
        return content


def load(path: Path) -> tuple[WantedConfiguration, ...]:
    """What the file, or every `*.yaml` of the folder, says. Raises `BadSetting`."""
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    found = tuple(_checked(file, each) for file in files for each in _read(file))
    if not found:
        raise BadSetting(f"--file: there is no {KIND} in {path}")
    return found


def _read(path: Path) -> list[Any]:
    return [each for each in yaml_files.documents("--file", path) if each is not None]


def _checked(path: Path, content: Any) -> WantedConfiguration:
    try:
        if (content["apiVersion"], content["kind"]) != (API_VERSION, KIND):
            raise BadSetting(
                f"--file: {path} holds a {content['kind']}: it must be a {KIND} of {API_VERSION}"
            )
        found = WantedConfiguration(content)
        if not (found.name and found.webhook_names and found.targets):
            raise BadSetting(f"--file: {path}: {found.name or 'a configuration'} has no webhooks")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadSetting(
            f"--file: {path} holds something that is no {KIND}: metadata.name and, for each webhook, name and"
            f" clientConfig.service or .url must be there ({type(error).__name__} {error})"
        ) from error
    return found


def _target(client: dict[str, Any]) -> Target:
    if "url" in client:
        parts = urlsplit(client["url"])
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError("a url must be https://host[:port]/path")
        return Target(parts.hostname, parts.port or HTTPS, parts.path or "/")
    service = client["service"]
    host = f"{service['name']}.{service['namespace']}.svc"
    return Target(host, int(service.get("port", HTTPS)), str(service.get("path", "/")))
