"""What can be wrong with ImagePolicies and the whitelist. Pure: what is written, and what tenants there are, in; findings out."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import re2

from services.cli.doctor.findings import Finding, Severity
from shared.contracts import Mode
from shared.crds import WhiteListItem
from shared.policies import CompiledPolicy, Problem, Tenants

POLICIES, WHITELIST = "policies", "whitelist"

ANYBODY = ("x7k2m9q4", "web-5cd466fccb-zx2lp")
"""Releases that nobody means: a pattern that matches them matches everything."""

_OF_TENANTS = frozenset({Problem.UNKNOWN_TENANT, Problem.UNKNOWN_BUNDLE})


def of_policies(
    policies: Iterable[CompiledPolicy], namespaces: Mapping[str, Mapping[str, str]], tenants: Tenants | None
) -> Iterator[Finding]:
    """In the order in which policies are asked. `tenants`: None where nothing is known of them."""
    catching_all = ""
    for policy in policies:
        where = f"ImagePolicy {policy.name}"
        finding = policy.finding_now(tenants or (lambda _: None))
        if finding and (tenants or finding.problem not in _OF_TENANTS):
            yield Finding(
                POLICIES,
                Severity.ERROR,
                f"{where}: {finding.message}: the defaults are in force where it stands",
                "correct it: `kubectl describe imagepolicy` says the same in its condition",
            )
            continue
        if catching_all:
            yield _warning(
                POLICIES,
                f"{where} is never asked: {catching_all} comes before it and covers everything",
                "give it a higher priority, or narrow the other",
            )
        covered = [name for name, labels in namespaces.items() if policy.covers_namespace(labels)]
        if namespaces and not covered:
            yield _warning(
                POLICIES,
                f"{where} covers no namespace there is",
                "check its labels: kubectl get namespaces --show-labels",
            )
        if policy.spec.namespace_selector is None and not policy.spec.images:
            if policy.spec.mode is Mode.OFF and not catching_all:
                yield _warning(
                    POLICIES,
                    f"{where} switches the gate off for everything",
                    "narrow it by namespaceSelector or images",
                )
            catching_all = catching_all or policy.name


def of_whitelist(items: Iterable[WhiteListItem], now: datetime) -> Iterator[Finding]:
    """By item."""
    for item in items:
        name, spec = item.metadata.name, item.spec
        where = f"WhiteListItem {name}"
        if spec.expires_at is not None and spec.expires_at <= now:
            yield _warning(
                WHITELIST,
                f"{where} has expired on {spec.expires_at:%Y-%m-%d}",
                f"moorgate whitelist remove {name}",
            )
            continue
        pattern = _compiled(spec.regexp)
        if pattern is None:
            yield Finding(
                WHITELIST,
                Severity.ERROR,
                f"{where}: its pattern is none of RE2's: it lets nobody through",
                "write it anew: https://github.com/google/re2/wiki/Syntax",
            )
        elif (
            spec.regexp
            and all(pattern.fullmatch(each) for each in ANYBODY)
            and not (spec.namespaces or spec.images)
        ):
            yield _warning(
                WHITELIST,
                f"{where} lets every release of the cluster through: {spec.regexp!r}",
                "narrow it by regexp, namespaces or images",
            )


def _compiled(regexp: str) -> "re2._Regexp[str] | None":
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(regexp, options)
    except re2.error:
        return None


def _warning(check: str, what: str, mend: str) -> Finding:
    return Finding(check, Severity.WARNING, what, mend)
