"""What service accounts may do against what they did: RBAC objects beside the API server's own audit log.

Pure: objects and events go in, complaints come out. A right is one (account, group, resource, verb, name), as RBAC
itself compares them; a rule's right counts as used by any allowed call that it would have allowed.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

PREFIX = "system:serviceaccount:"
EVERYTHING = "*"
CREATED = 201


class Right(msgspec.Struct, frozen=True, order=True):
    """One thing that one account may do."""

    account: str
    group: str
    resource: str
    """With its subresource: `imagepolicies/status`."""
    verb: str
    name: str = ""
    """Only this object; empty: any."""
    namespace: str = ""
    """Only there; empty: everywhere."""
    rule: str = ""
    """Where it was granted."""

    def __str__(self) -> str:
        name, where = f" {self.name}" if self.name else "", f" in {self.namespace}" if self.namespace else ""
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.account}: {self.verb} {resource}{name}{where}"

    def covers(self, call: "Call") -> bool:
        """Whether RBAC allows the call by this right."""
        return (
            (self.account, self.group, self.resource, self.verb)
            == (call.account, call.group, call.resource, call.verb)
            and self.name in ("", call.name)
            and self.namespace in ("", call.namespace)
        )


class Call(msgspec.Struct, frozen=True, order=True):
    """One request of one account, as the API server saw it."""

    account: str
    group: str
    resource: str
    verb: str
    name: str
    namespace: str
    code: int
    is_refused: bool
    """By its rights, not by what the object held."""
    reason: str = ""


class _Subject(msgspec.Struct, frozen=True):
    kind: str
    name: str
    namespace: str = ""


class _RoleRef(msgspec.Struct, frozen=True):
    kind: str
    name: str


class _Metadata(msgspec.Struct, frozen=True):
    name: str
    namespace: str = ""


class _Binding(msgspec.Struct, frozen=True, rename="camel"):
    metadata: _Metadata
    role_ref: _RoleRef
    subjects: list[_Subject] = []


class _Rule(msgspec.Struct, frozen=True, rename="camel"):
    verbs: list[str]
    api_groups: list[str] = []
    resources: list[str] = []
    resource_names: list[str] = []
    non_resource_urls: list[str] = msgspec.field(default_factory=list, name="nonResourceURLs")


class _Role(msgspec.Struct, frozen=True):
    metadata: _Metadata
    rules: list[_Rule] | None = None


def granted(bindings: Sequence[Any], roles: Sequence[Any], namespace: str) -> list[Right]:
    """All rights of the namespace's accounts, by any binding of the cluster, one each time it is granted."""
    by_name = {
        (role["kind"], role["metadata"].get("namespace", ""), role["metadata"]["name"]): msgspec.convert(
            role, _Role
        )
        for role in roles
    }
    found = []
    for each in bindings:
        binding = msgspec.convert(each, _Binding)
        scope = binding.metadata.namespace
        where = scope if binding.role_ref.kind == "Role" else ""
        role = by_name[binding.role_ref.kind, where, binding.role_ref.name]
        for subject in binding.subjects:
            if subject.kind == "ServiceAccount" and (subject.namespace or scope) == namespace:
                found += list(
                    _rights(subject.name, role, scope, f"{binding.role_ref.kind} {role.metadata.name}")
                )
    return found


def calls(log: Iterable[bytes]) -> list[Call]:
    """What the audit log tells of service accounts. One request may be told of in several stages."""
    found = []
    for line in log:
        event = msgspec.json.decode(line)
        user = event["user"]["username"]
        if user.startswith(PREFIX):
            found += list(_calls(user.rpartition(":")[2], event))
    return found


def complaints(rights: Sequence[Right], made: Sequence[Call]) -> list[str]:
    """Each line names what doesn't fit: refused, granted and unused, granted twice, granted by a wildcard."""
    lines = {f"refused   {_described(call)}" for call in made if call.is_refused}
    done = {call for call in made if not call.is_refused}
    for right in rights:
        if EVERYTHING in (right.group, right.resource, right.verb):
            lines.add(f"too wide  {right} ({right.rule})")
        elif not any(right.covers(call) for call in done):
            lines.add(f"unused    {right} ({right.rule})")
    same = [str(right) for right in rights]
    lines |= {f"twice     {each}" for each in same if same.count(each) > 1}
    return sorted(lines)


def _rights(account: str, role: _Role, scope: str, where: str) -> Iterator[Right]:
    for rule in role.rules or []:
        for url in rule.non_resource_urls:
            yield from (Right(account, "", url, verb, rule=where) for verb in rule.verbs)
        for group in rule.api_groups:
            for resource in rule.resources:
                for verb in rule.verbs:
                    for name in rule.resource_names or [""]:
                        yield Right(account, group, resource, verb, name, scope, where)


def _calls(account: str, event: Any) -> Iterator[Call]:
    # Discovery and health are paths, no objects.
    about, annotations = (
        event.get("objectRef", {"resource": event.get("requestURI", "")}),
        event.get("annotations", {}),
    )
    resource = "/".join(filter(None, (about["resource"], about.get("subresource", ""))))
    code = event.get("responseStatus", {}).get("code", 0)
    call = Call(
        account,
        about.get("apiGroup", ""),
        resource,
        event["verb"],
        about.get("name", ""),
        about.get("namespace", ""),
        code,
        annotations.get("authorization.k8s.io/decision") != "allow" or code == 403,
        event.get("responseStatus", {}).get("message", ""),
    )
    yield call
    if call.verb == "patch" and code == CREATED:
        # An apply that makes the object is checked for `create` too; the log tells of the patch alone.
        yield msgspec.structs.replace(call, verb="create")


def _described(call: Call) -> str:
    name = f" {call.name}" if call.name else ""
    where = f" in {call.namespace}" if call.namespace else ""
    resource = f"{call.resource}.{call.group}" if call.group else call.resource
    return f"{call.account}: {call.verb} {resource}{name}{where}: {call.reason}"
