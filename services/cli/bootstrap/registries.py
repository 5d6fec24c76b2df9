"""Credentials of registries for Anchore, from the Secrets by which Kubernetes pulls.

Anchore shows no passwords, so a record's name says which Secret, and which version of it, it was made from: as long as that
and the user are the same, nothing is sent. A name that is taken is a 500 there, so the list is read first; Anchore's own
ping of the registry is left out, since it speaks https only and may see another network than the images come through.
"""

from urllib.parse import quote

import msgspec

from services.cli.bootstrap import secrets
from services.cli.bootstrap.anchore import Anchore
from services.cli.bootstrap.dockerconfig import BadDockerConfig, Login, read_logins
from services.cli.bootstrap.file import RegistrySecret
from services.cli.bootstrap.plan import Failed, Plan, Verb
from shared.cluster import Cluster
from shared.settings import Secret

KEY = ".dockerconfigjson"


class Registry(msgspec.Struct, frozen=True, kw_only=True):
    """A registry as Anchore shows it, and as it is told of one."""

    registry: str
    registry_name: str | None = None
    registry_user: str | None = None
    registry_type: str | None = None
    registry_verify: bool | None = None


async def register(
    plan: Plan, anchore: Anchore | None, cluster: Cluster, names: tuple[RegistrySecret, ...]
) -> None:
    """Add or change what differs; say what is no use. Raises `Failed` and the adapters' errors."""
    present = await anchore.get("/registries", list[Registry]) if anchore else None
    known = {each.registry: each for each in present or ()}
    done: dict[str, RegistrySecret] = {}
    for name in names:
        secret = await secrets.read(cluster, name)
        if secret is None:
            raise Failed(f"registries: there is no Secret {name}")
        for login in _logins(plan, secret, name):
            if login.registry in done:
                plan.note(
                    Verb.WARNING, f"registry {login.registry}: in Secret {name} too, the first one counts"
                )
                continue
            done[login.registry] = name
            await _register(plan, anchore, login, _record(login, secret, name), known.get(login.registry))


def _logins(plan: Plan, secret: secrets.KubeSecret, name: RegistrySecret) -> list[Login]:
    try:
        logins, faults = read_logins(secret.value(KEY))
    except BadDockerConfig as error:
        raise Failed(f"registries: Secret {name}: {KEY} {error}") from error
    for fault in faults:
        plan.note(Verb.WARNING, f"Secret {name}: {fault}")
    return logins


async def _register(
    plan: Plan, anchore: Anchore | None, login: Login, wanted: Registry, present: Registry | None
) -> None:
    what = f"registry {login.registry} as {login.username}"
    if present == wanted:
        plan.note(Verb.UNCHANGED, what)
        return
    method, path = "POST", "/registries"
    if present is not None:
        method, path = "PUT", f"/registries/{quote(login.registry, safe=':')}"
    verb = Verb.UPDATED if present else Verb.CREATED
    await plan.change(verb, what, lambda: _send(anchore, method, path, wanted, login.password))


async def _send(anchore: Anchore | None, method: str, path: str, record: Registry, password: Secret) -> None:
    if anchore is None:
        raise Failed("there is no account in Anchore yet")
    body = {**msgspec.structs.asdict(record), "registry_pass": password.reveal()}
    await anchore.send(method, path, body, {"validate": "false"}, hide=password)


def _record(login: Login, secret: secrets.KubeSecret, name: RegistrySecret) -> Registry:
    version = f"{secret.metadata.uid[:8]}.{secret.metadata.resource_version}"
    return Registry(
        registry=login.registry,
        registry_name=f"moorgate {name} {version}",
        registry_user=login.username,
        registry_type="docker_v2",
        registry_verify=not name.insecure_skip_verify,
    )
