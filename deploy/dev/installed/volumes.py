"""The volumes of one Pod as folders of this machine, with the owners and modes that the kubelet gives them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from deploy.dev.installed.containers import Json, NotUnderstoodError, Sources, field
from deploy.dev.kubeapi import KubeApi

TOKEN_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes the volumes of one Pod."""

    api: KubeApi
    pod: Json
    address: str
    folder: Path
    claims: Path
    """Where persistent volumes are kept, by the name of their claim: they outlive the Pod."""

    async def make(self, sources: Sources) -> dict[str, Path]:
        """Each volume's folder, by name. Raises `NotReadyError` while something it is made of is not there."""
        made = {}
        group = self.pod["spec"].get("securityContext", {}).get("fsGroup")
        for volume in self.pod["spec"].get("volumes", []):
            name = volume["name"]
            claim = volume.get("persistentVolumeClaim")
            made[name] = self.claims / claim["claimName"] if claim else self.folder / name
            made[name].mkdir(parents=True, exist_ok=True)
            if not _is_written(volume):
                await self._fill(volume, sources, made[name])
            _own(made[name], group, is_written=_is_written(volume), mode=_mode(volume))
        return made

    async def _fill(self, volume: Json, sources: Sources, folder: Path) -> None:
        (kind, source) = next((kind, source) for kind, source in volume.items() if kind != "name")
        parts = source["sources"] if kind == "projected" else [{kind: source}]
        for part in parts:
            ((part_kind, reference),) = part.items()
            _write(folder, await self._content(part_kind, reference, sources))

    async def _content(self, kind: str, source: Json, sources: Sources) -> Mapping[str, bytes]:
        match kind:
            case "secret" | "configMap":
                return _chosen(sources.of(kind, source) or {}, source.get("items"))
            case "downwardAPI":
                items = source["items"]
                paths = {each["path"]: each["fieldRef"]["fieldPath"] for each in items}
                return {name: field(self.pod, path, self.address).encode() for name, path in paths.items()}
            case "serviceAccountToken":
                return {source["path"]: await self._token(source)}
            case _:
                raise NotUnderstoodError(f"a volume of kind {kind}")

    async def _token(self, source: Json) -> bytes:
        """A token bound to the Pod, as the kubelet asks for it."""
        metadata, account = self.pod["metadata"], self.pod["spec"].get("serviceAccountName", "default")
        bound = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}
        asked: Json = {
            "expirationSeconds": source.get("expirationSeconds", TOKEN_SECONDS),
            "boundObjectRef": bound,
        }
        if "audience" in source:
            asked["audiences"] = [source["audience"]]
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        answer = await self.api.request("POST", path, {"spec": asked})
        token: str = msgspec.json.decode(answer)["status"]["token"]
        return token.encode()


def _chosen(content: Mapping[str, bytes], items: list[Json] | None) -> Mapping[str, bytes]:
    if items is None:
        return content
    return {each["path"]: content[each["key"]] for each in items if each["key"] in content}


def _write(folder: Path, content: Mapping[str, bytes]) -> None:
    for path, text in content.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text)


def _is_written(volume: Json) -> bool:
    return "emptyDir" in volume or "persistentVolumeClaim" in volume


def _own(folder: Path, group: int | None, *, is_written: bool, mode: int) -> None:
    """Root's with the volume's mode; the Pod's group, where it has one, may always read."""
    if is_written:
        folder.chmod(0o777 if group is None else 0o2775)
        os.chown(folder, 0, group or 0)
        return
    for each in folder.rglob("*"):
        if each.is_file():
            each.chmod(mode if group is None else mode | 0o440)
            os.chown(each, 0, group or 0)


def _mode(volume: Json) -> int:
    (source,) = (value for kind, value in volume.items() if kind != "name")
    return int(source.get("defaultMode", 0o644))
