"""The chart as tests read it: sets of values, rendered objects, Pod templates, and what a container would find."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import trustme
import yaml

from deploy.dev.helm import CHART, Release

VALUES = sorted((Path(__file__).parents[1] / "chart" / "values").glob("*.yaml"))
SETS = [path.stem for path in VALUES]

Json = dict[str, Any]

SECRET = "made-up-secret"


class PodTemplate(NamedTuple):
    """What a workload makes Pods of."""

    owner: Json
    metadata: Json
    spec: Json

    @property
    def name(self) -> str:
        return f"{self.owner['kind']}/{self.owner['metadata']['name']}"

    def containers(self) -> list[Json]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


@cache
def rendered(values: str) -> tuple[Json, ...]:
    """The objects by one of the sets of values."""
    return tuple(Release(files=(_file(values),)).template())


def values_of(values: str) -> Json:
    found: Json = yaml.safe_load(_file(values).read_text())
    return found


def defaults() -> Json:
    found: Json = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def named(objects: tuple[Json, ...], kind: str, name: str) -> Json:
    return next(each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name))


def of_kind(objects: tuple[Json, ...], *kinds: str) -> list[Json]:
    return [each for each in objects if each["kind"] in kinds]


def pod_templates(objects: tuple[Json, ...]) -> list[PodTemplate]:
    return [
        PodTemplate(each, each["spec"]["template"].get("metadata", {}), each["spec"]["template"]["spec"])
        for each in of_kind(objects, "Deployment", "StatefulSet", "DaemonSet", "Job")
    ]


def component(objects: tuple[Json, ...], name: str) -> PodTemplate:
    """The Pod template of a part of Moorgate."""
    label = "app.kubernetes.io/component"
    return next(
        each
        for each in pod_templates(objects)
        if each.metadata.get("labels", {}).get(label) == name and each.owner["kind"] != "Job"
    )


def environment(template: PodTemplate, objects: tuple[Json, ...], folder: Path) -> dict[str, str]:
    """What the first container's process would find: variables, and below `folder` the files that they name."""
    _write_files(template, objects, folder)
    found = {}
    for each in template.containers()[0].get("env", []):
        value = each["value"] if "value" in each else _referenced(each["valueFrom"])
        found[each["name"]] = str(folder) + value if value.startswith("/etc/") else value
    return found


def _file(values: str) -> Path:
    return VALUES[SETS.index(values)]


def _referenced(source: Mapping[str, Any]) -> str:
    return "moorgate" if "fieldRef" in source else SECRET


def _write_files(template: PodTemplate, objects: tuple[Json, ...], folder: Path) -> None:
    volumes = {each["name"]: each for each in template.spec.get("volumes", [])}
    for mount in template.containers()[0].get("volumeMounts", []):
        for path, content in _contents(volumes.get(mount["name"], {}), objects):
            target = folder / mount["mountPath"].lstrip("/") / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def _contents(volume: Json, objects: tuple[Json, ...]) -> Iterator[tuple[str, bytes]]:
    for source in volume.get("projected", {}).get("sources", [volume]):
        if "configMap" in source:
            name = source["configMap"]["name"]
            found = [each for each in of_kind(objects, "ConfigMap") if each["metadata"]["name"] == name]
            made: Json = found[0]["data"] if found else {}
            for key, path in _items(source["configMap"], list(made)):
                yield path, made[key].encode() if found else _secret(key)
        elif "secret" in source:
            for key, path in _items(
                source["secret"], ["team-a.password", "team-b.password", "ca.pem", *_NOTIFY]
            ):
                yield path, _secret(key)


def _items(source: Json, all_keys: list[str]) -> Iterator[tuple[str, str]]:
    if "items" not in source:
        yield from ((key, key) for key in all_keys)
    for each in source.get("items", []):
        yield each["key"], each["path"]


_NOTIFY = ("slack-url", "siem-key")


@cache
def _authority() -> tuple[trustme.CA, trustme.LeafCert]:
    authority = trustme.CA()
    return authority, authority.issue_cert("localhost", "127.0.0.1")


def _secret(key: str) -> bytes:
    authority, leaf = _authority()
    match key:
        case "ca.crt" | "ca.pem":
            return authority.cert_pem.bytes()
        case "tls.crt":
            return b"".join(each.bytes() for each in leaf.cert_chain_pems)
        case "tls.key":
            return leaf.private_key_pem.bytes()
        case _ if key.endswith(".creds"):
            return b"-----BEGIN NATS USER JWT-----\n"
        case "slack-url":
            return b"https://hooks.example/moorgate"
        case _:
            return SECRET.encode()
