"""The Secrets, ConfigMaps and Services that a Pod template may name, read from the API server."""

import msgspec

from deploy.dev.installed.containers import Json, Sources
from deploy.dev.kubeapi import KubeApi


class SourcesReader:
    """Secrets, ConfigMaps and Services of the namespace."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}"

    async def read(self) -> Sources:
        """As they are now."""
        secrets, config_maps, services = [
            msgspec.json.decode(await self._api.request("GET", f"{self._path}/{kind}"))["items"]
            for kind in ("secrets", "configmaps", "services")
        ]
        return Sources(
            {each["metadata"]["name"]: _decoded(each) for each in secrets},
            {
                each["metadata"]["name"]: {k: v.encode() for k, v in (each.get("data") or {}).items()}
                | _decoded({"data": each.get("binaryData")})
                for each in config_maps
            },
            services,
        )


def _decoded(secret: Json) -> dict[str, bytes]:
    return msgspec.convert(secret.get("data") or {}, dict[str, bytes])
