"""What a container of a Pod template comes down to: command, environment, mounts, user; pure, no I/O.

Written after the kubelet's rules: `$(NAME)` in commands and values, variables of the Services that are there,
`env` over `envFrom`, a Pod's security context under the container's. What is not understood is an error, never
left out: a chart that begins to use it must not be tested without it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

Json = dict[str, Any]

LISTENING = {
    "MOORGATE_LISTEN": "0.0.0.0:8443",
    "MOORGATE_METRICS_LISTEN": "0.0.0.0:9090",
    "MOORGATE_PAGE_LISTEN": "",
    "MOORGATE_NOTIFICATIONS_LISTEN": "",
}
"""Settings that say where to listen, and what holds without them."""

_REFERENCE = re.compile(r"\$(\$|\(([^)]+)\))")


class NotReadyError(Exception):
    """Something the Pod names is not there yet: a Secret, a ConfigMap, a key. The kubelet waits for it."""


class NotUnderstoodError(Exception):
    """A field that this node doesn't know."""


class Bind(msgspec.Struct, frozen=True):
    """A file or folder of this machine at a path of the container."""

    source: str
    target: str
    read_only: bool


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """What sandbox.py reads."""

    argv: list[str]
    env: dict[str, str]
    working_folder: str
    hostname: str
    uid: int
    gid: int
    groups: list[int]
    binds: list[Bind]
    scratch: str
    """A folder to mount on, for this container alone."""
    open: list[str]
    """Folders that anybody may pass."""
    beside: list[str]
    """File systems of their own that the container needs."""


class Sources(msgspec.Struct, frozen=True):
    """The namespace's Secrets, ConfigMaps and Services as they are now, by name."""

    secrets: Mapping[str, Mapping[str, bytes]]
    config_maps: Mapping[str, Mapping[str, bytes]]
    services: Sequence[Json] = ()

    def of(self, kind: str, reference: Json) -> Mapping[str, bytes] | None:
        """The content, None where it is optional and not there. Raises `NotReadyError`."""
        name = reference.get("name") or reference["secretName"]
        found = (self.secrets if kind == "secret" else self.config_maps).get(name)
        if found is None and not reference.get("optional"):
            raise NotReadyError(f"{kind} {name} is not there")
        return found

    def key(self, kind: str, reference: Json) -> str | None:
        """One key's text, None where it is optional and not there. Raises `NotReadyError`."""
        content = self.of(kind, reference) or {}
        if reference["key"] in content:
            return content[reference["key"]].decode()
        if reference.get("optional"):
            return None
        raise NotReadyError(f"{kind} {reference['name']} has no key {reference['key']}")


def environment(pod: Json, container: Json, sources: Sources, address: str) -> dict[str, str]:
    """Everything the kubelet would put into the container's environment. Raises `NotReadyError`."""
    links = pod["spec"].get("enableServiceLinks", True)
    variables = service_links(sources.services) if links else {}
    for each in container.get("envFrom", []):
        variables |= _from_whole(each, sources)
    for each in container.get("env", []):
        value = _value(each, pod, container, sources, address)
        if value is not None:
            variables[each["name"]] = expand(value, variables) if "value" in each else value
    return variables


def command(container: Json, entrypoint: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """What is run: the template's command and arguments, else the image's."""
    words = [*(container.get("command") or entrypoint), *container.get("args", [])]
    return [expand(word, variables) for word in words]


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` by its value; `$$` is a dollar, an unknown name stays as it is."""

    def replaced(found: re.Match[str]) -> str:
        name = found[2]
        return "$" if name is None else variables.get(name, found[0])

    return _REFERENCE.sub(replaced, text)


def listening_on(address: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The settings that say where to listen, at the Pod's own address."""
    told = {name: variables.get(name) or default for name, default in LISTENING.items()}
    return {name: f"{address}:{value.rpartition(':')[2]}" for name, value in told.items() if value}


def user(pod: Json, container: Json) -> tuple[int, int, list[int]]:
    """uid, gid, further groups: the container's security context over the Pod's."""
    whole = pod["spec"].get("securityContext", {})
    own = {**whole, **container.get("securityContext", {})}
    uid = own.get("runAsUser", 65532)
    groups = [*whole.get("supplementalGroups", []), *([whole["fsGroup"]] if "fsGroup" in whole else [])]
    return uid, own.get("runAsGroup", uid), groups


def field(pod: Json, path: str, address: str) -> str:
    """A field of the downward API."""
    metadata, spec = pod["metadata"], pod["spec"]
    simple = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": address,
        "status.hostIP": address,
    }
    if path in simple:
        return str(simple[path])
    if found := re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path):
        return str(metadata.get(found[1], {}).get(found[2], ""))
    raise NotUnderstoodError(f"fieldRef {path}")


def service_links(services: Sequence[Json]) -> dict[str, str]:
    """The variables that a kubelet makes of each Service of the namespace."""
    links: dict[str, str] = {}
    for service in services:
        host, ports = service["spec"].get("clusterIP", ""), service["spec"].get("ports", [])
        if host in ("", "None") or not ports:
            continue
        name = service["metadata"]["name"].upper().replace("-", "_")
        links |= {f"{name}_SERVICE_HOST": host, f"{name}_SERVICE_PORT": str(ports[0]["port"])}
        links[f"{name}_PORT"] = f"tcp://{host}:{ports[0]['port']}"
        for port in ports:
            if "name" in port:
                links[f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
            prefix = f"{name}_PORT_{port['port']}_TCP"
            links |= {prefix: f"tcp://{host}:{port['port']}", f"{prefix}_PROTO": "tcp"}
            links |= {f"{prefix}_PORT": str(port["port"]), f"{prefix}_ADDR": host}
    return links


def probe_target(container: Json, probe: Json, address: str) -> tuple[str, str, int, str]:
    """Scheme (`tcp` too), host, port and path of a probe."""
    if "httpGet" in probe:
        get = probe["httpGet"]
        port = named_port(container, get["port"])
        return get.get("scheme", "HTTP").lower(), get.get("host") or address, port, get.get("path", "/")
    if "tcpSocket" in probe:
        return "tcp", address, named_port(container, probe["tcpSocket"]["port"]), ""
    raise NotUnderstoodError(f"a probe by {', '.join(probe)}")


def named_port(container: Json, port: int | str) -> int:
    """The number of a port of the container."""
    if isinstance(port, int):
        return port
    for each in container.get("ports", []):
        if each.get("name") == port:
            return int(each["containerPort"])
    raise NotUnderstoodError(f"container {container['name']} has no port {port}")


def _from_whole(each: Json, sources: Sources) -> dict[str, str]:
    kind = "secret" if "secretRef" in each else "configMap"
    content = sources.of(kind, each[f"{kind}Ref"]) or {}
    return {each.get("prefix", "") + key: value.decode() for key, value in content.items()}


def _value(each: Json, pod: Json, container: Json, sources: Sources, address: str) -> str | None:
    if "valueFrom" not in each:
        return str(each.get("value", ""))
    ((kind, reference),) = each["valueFrom"].items()
    match kind:
        case "fieldRef":
            return field(pod, reference["fieldPath"], address)
        case "secretKeyRef":
            return sources.key("secret", reference)
        case "configMapKeyRef":
            return sources.key("configMap", reference)
        case "resourceFieldRef":
            return _resource(container, reference)
        case _:
            raise NotUnderstoodError(f"env {each['name']} from {kind}")


_UNITS = {"": 1, "Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "k": 1000, "M": 1000**2, "G": 1000**3}


def _resource(container: Json, reference: Json) -> str:
    side, _, name = reference["resource"].partition(".")
    amount = str(container.get("resources", {}).get(side, {}).get(name, "0"))
    found = re.fullmatch(r"(\d+)([A-Za-z]*)", amount)
    if name != "memory" or found is None:
        raise NotUnderstoodError(f"resourceFieldRef {reference['resource']} of {amount!r}")
    divisor = re.fullmatch(r"(\d+)([A-Za-z]*)", str(reference.get("divisor", "1")))
    if divisor is None or reference.get("divisor") == "0":
        return str(int(found[1]) * _UNITS[found[2]])
    return str(-(-int(found[1]) * _UNITS[found[2]] // (int(divisor[1]) * _UNITS[divisor[2]])))
