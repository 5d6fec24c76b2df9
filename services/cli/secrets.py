"""`moorgate secrets apply`: the Secrets that no template may make, made once and kept.

A template would make new passwords at every render. This runs before Helm makes anything else, at each install and upgrade:
what is there stays as it is, what is missing is added, and NATS' certificate is renewed when two thirds of its life are over.
Two runs at once agree: each writes only over what it has read, and reads again after a conflict. Nothing secret is printed.

Exit codes: 0 all is as it should be (with `--dry-run`: would be), 1 a step failed, 2 a flag is at fault.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import cyclopts

from services.cli import frame, secrets_made, secrets_nats_tls
from services.cli.bootstrap import secrets
from services.cli.bootstrap.file import SecretName
from services.cli.bootstrap.plan import Failed, Plan, Verb
from services.cli.bootstrap.secrets import KubeSecret
from services.cli.output import write
from shared import lifecycle
from shared.cluster import Cluster, open_cluster
from shared.errors import BadSetting, Conflict
from shared.settings import Environment

ATTEMPTS = 5
"""How often somebody else may write a Secret while we do."""

Values = Callable[[KubeSecret | None], dict[str, str]]
"""What is to be written over what is there; nothing where all is well."""

app = cyclopts.App(name="secrets", help="The Secrets that Moorgate makes for itself.")


@app.command
def apply(
    *,
    nats_users: str = "",
    nats_ca: str = "",
    nats_tls: str = "",
    nats_hosts: str = "",
    webhook_path: str = "",
    namespace: str = "",
    dry_run: bool = False,
) -> int:
    """Make the Secrets that are missing, and renew NATS' certificate when it is due. Safe to repeat.

    Parameters
    ----------
    nats_users
        Secret with a password for each user of NATS.
    nats_ca
        Secret with the authority that signs NATS' certificate; needed with --nats-tls.
    nats_tls
        Secret with NATS' certificate, its key, and the authorities to trust.
    nats_hosts
        The names by which NATS is called, with commas.
    webhook_path
        Secret with the secret part of the webhooks' path.
    namespace
        Where the Secrets are; without it MOORGATE_NAMESPACE.
    dry_run
        Show what would be done, and change nothing.
    """
    try:
        where = namespace or Environment(os.environ).text("MOORGATE_NAMESPACE", "moorgate")
        hosts = frozenset(host.strip() for host in nats_hosts.split(",") if host.strip())
        _check(nats_ca=nats_ca, nats_tls=nats_tls, hosts=hosts)
    except BadSetting as error:
        return lifecycle.explain(error)
    plan = Plan(write, is_dry=dry_run)

    async def make(cluster: Cluster) -> None:
        for name, wanted in ((nats_users, secrets_made.users), (webhook_path, secrets_made.path)):
            if name:
                await _keep(plan, cluster, SecretName(namespace=where, name=name), wanted)
        if nats_tls:
            ca, tls = (SecretName(namespace=where, name=name) for name in (nats_ca, nats_tls))
            await _certificates(plan, cluster, ca, tls, hosts)

    async def connected() -> int:
        async with open_cluster() as cluster:
            await make(cluster)
        return frame.EXIT_OK

    return frame.run(connected, failed=frame.EXIT_NO)


def _check(*, nats_ca: str, nats_tls: str, hosts: frozenset[str]) -> None:
    if bool(nats_ca) != bool(nats_tls):
        raise BadSetting("--nats-ca and --nats-tls belong together: give both or none")
    if nats_tls and not hosts:
        raise BadSetting(
            "--nats-hosts is missing: a certificate is made for the names by which NATS is called"
        )


async def _certificates(
    plan: Plan, cluster: Cluster, ca: SecretName, tls: SecretName, hosts: frozenset[str]
) -> None:
    """The authority first: a run that dies in between leaves one that has signed nothing yet."""
    now = datetime.now(UTC)
    held = await _keep(plan, cluster, ca, lambda present: secrets_nats_tls.authority_values(present, now))
    if held is None:  # a dry run that could not make it
        plan.note(Verb.CREATED, f"Secret {tls} (a certificate for NATS)")
        return
    authority = secrets_nats_tls.read(held)
    changed = len(plan.steps)
    await _keep(
        plan, cluster, tls, lambda present: secrets_nats_tls.tls_values(present, authority, hosts, now)
    )
    if any(each.verb is Verb.UPDATED for each in plan.steps[changed:]):
        plan.note(
            Verb.BY_HAND, "NATS reads its certificate at its start: kubectl rollout restart statefulset"
        )


async def _keep(plan: Plan, cluster: Cluster, name: SecretName, values: Values) -> KubeSecret | None:
    """The Secret with everything it needs, as it is now. Raises `Failed`, `Unavailable`, `Refused`."""
    for _ in range(ATTEMPTS):
        present = await secrets.read(cluster, name)
        try:
            wanted = values(present)
        except Failed as error:
            raise Failed(f"Secret {name}: {error}") from error
        if not wanted:
            plan.note(Verb.UNCHANGED, f"Secret {name}")
            return present
        verb = Verb.UPDATED if present else Verb.CREATED
        act = partial(secrets.write, cluster, name, present, wanted)
        try:
            await plan.change(verb, f"Secret {name} ({', '.join(sorted(wanted))})", act)
        except Conflict:  # another run has written it: what it made counts
            continue
        return await secrets.read(cluster, name)
    raise Failed(f"Secret {name}: somebody else writes it all the time")
