"""The tenants' Anchores: what bundles there are, which is in force, and a way to check images by any of them.

Credentials are those of the scanners: `MOORGATE_ANCHORE_…` or `MOORGATE_TENANTS_FILE`. A tenant for which there are none can
still be named by an ImagePolicy: its images are told as not known, never as passing.
"""

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import msgspec
from prometheus_client import CollectorRegistry

from services.cli.bootstrap.anchore import Anchore as Administered
from services.cli.bootstrap.policies import Record, records
from services.scanner.anchore import Anchore
from services.scanner.calls import Calls
from services.scanner.detection import client
from services.scanner.metrics import ScannerMetrics
from shared.anchore import AnchoreApi, AnchoreHttp, open_session
from shared.contracts import TenantRecord
from shared.errors import BadSetting, MoorgateError
from shared.policies import Policies
from shared.tenants import Tenant


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant's Anchore, as it was when the run began."""

    tenant: str
    checks: Anchore
    policies: Administered
    bundles: Mapping[str, Record]
    in_force: str | None
    """What judges where no bundle is named."""

    @property
    def record(self) -> TenantRecord:
        """As a scanner would write it."""
        return TenantRecord(
            tenant=self.tenant,
            active_bundle_id=self.in_force,
            bundles=dict.fromkeys(self.bundles, ""),
            read_at=datetime.now(UTC),
        )


class Accounts(msgspec.Struct, frozen=True, kw_only=True):
    """Those that can be asked, and why others cannot."""

    open: dict[str, Account]
    troubles: dict[str, str]

    def trouble(self, tenant: str) -> str:
        """Why this one cannot be asked."""
        return self.troubles.get(
            tenant, f"no credentials for tenant {tenant} are given (MOORGATE_TENANTS_FILE)"
        )


async def open_accounts(stack: AsyncExitStack, wanted: Mapping[str, Tenant]) -> Accounts:
    """All that answer. Raises `MoorgateError` where none does."""
    found = Accounts(open={}, troubles={})
    for name, tenant in wanted.items():
        try:
            found.open[name] = await _account(stack, name, tenant)
        except BadSetting:
            raise
        except MoorgateError as error:
            found.troubles[name] = f"{error} (tenant {name}, {tenant.anchore.root})"
    if not found.open and found.troubles:
        raise MoorgateError(next(iter(found.troubles.values())))
    return found


def tenant_records(accounts: Accounts, policies: Policies) -> Mapping[str, TenantRecord]:
    """What policies are held against; a tenant that cannot be asked is believed to have whatever they name."""
    named: dict[str, dict[str, str]] = {}
    for policy in policies:
        named.setdefault(policy.spec.tenant, {})[policy.spec.policy_bundle] = ""
    believed = {
        name: TenantRecord(tenant=name, active_bundle_id=None, bundles=bundles, read_at=datetime.now(UTC))
        for name, bundles in named.items()
    }
    return {**believed, **{name: each.record for name, each in accounts.open.items()}}


def chosen(all_tenants: Mapping[str, Tenant], only: str | None, named: Iterable[str]) -> dict[str, Tenant]:
    """Those that judge something. Raises `BadSetting` for one that is not there."""
    if only is None:
        return {name: all_tenants[name] for name in sorted({*named} & all_tenants.keys())}
    if only not in all_tenants:
        raise BadSetting(
            f"--tenant is {only!r}: credentials are given for {', '.join(all_tenants) or 'none'}"
        )
    return {only: all_tenants[only]}


async def _account(stack: AsyncExitStack, name: str, tenant: Tenant) -> Account:
    settings = tenant.anchore
    http = AnchoreHttp(await stack.enter_async_context(open_session(settings)), settings)
    api = await http.detect() if settings.api is AnchoreApi.AUTO else settings.api
    policies = Administered(http, api, settings.username)
    found = await records(policies)
    active = next((each.bundle_id for each in found.values() if each.is_active), None)
    return Account(
        tenant=name,
        checks=client(api, Calls(http, ScannerMetrics(CollectorRegistry()))),
        policies=policies,
        bundles=found,
        in_force=tenant.bundle or active,
    )
