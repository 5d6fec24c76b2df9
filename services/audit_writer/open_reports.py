"""Writes Reports beside Audits, where `MOORGATE_REPORTS=openreports` asks for them.

An Audit never waits for its Report's success: what goes wrong here is said once, shown by
`moorgate_degraded{part="reports"}` and tried again with a later Audit. A Report is a plain upsert by the
process that wrote the Audit: of two replicas that write one Audit at once the Report may be the elder's
until the Audit changes again. The Audit is the record.
"""

import asyncio
from enum import StrEnum

from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.rates import WriteRate
from services.audit_writer.reports import API_VERSION, report_of
from shared import logs
from shared.cluster import Cluster
from shared.crds import Audit
from shared.errors import MoorgateError, Refused, Unavailable

MANAGER = "moorgate-reports"
"""Field manager of the applies."""

AFTER_ERROR = 60.0
"""Seconds without Reports after one failed: the CRD may be missing for ever, and every try is a request."""


class ReportKind(StrEnum):
    """What `MOORGATE_REPORTS` can be."""

    OFF = "off"
    OPENREPORTS = "openreports"


class OpenReports:
    """The Reports of one API server."""

    def __init__(self, cluster: Cluster, rate: WriteRate, metrics: AuditWriterMetrics) -> None:
        self._cluster = cluster
        self._rate = rate
        self._degraded = metrics.degraded.labels("reports")
        self._degraded.set(0)
        self._is_degraded = False
        self._not_before = 0.0
        self._log = logs.logger("reports")

    async def write(self, audit: Audit, uid: str | None) -> None:
        """Make the Report say what `audit` says. Never raises for what a Report can't be written for."""
        loop = asyncio.get_running_loop()
        if uid is None or loop.time() < self._not_before:
            return
        report = report_of(audit, uid)
        path = f"/apis/{API_VERSION}/namespaces/{report.metadata.namespace}/reports/{report.metadata.name}"
        await self._rate.take()
        try:
            await self._cluster.apply(path, report, MANAGER)
        except MoorgateError as error:
            if isinstance(error, Unavailable):
                self._rate.pause(error.delay)
            if _is_everywhere(error):
                self._not_before = loop.time() + AFTER_ERROR
            self._note(error)
        else:
            self._note(None)

    def _note(self, error: MoorgateError | None) -> None:
        is_degraded = error is not None
        if is_degraded and not self._is_degraded:
            self._log.warning("reports_not_written", error=str(error), then="Audits are written as ever")
        self._is_degraded = is_degraded
        self._degraded.set(is_degraded)


def _is_everywhere(error: MoorgateError) -> bool:
    """Whether the next Report would meet the same: the API is away or not installed, not one namespace gone."""
    if isinstance(error, Refused):
        return error.status == _NOT_FOUND and "namespaces" not in str(error).partition("HTTP")[2]
    return isinstance(error, Unavailable)


_NOT_FOUND = 404
