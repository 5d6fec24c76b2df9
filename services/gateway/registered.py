"""Whether the API server asks the gateways at all: the leader looks, and an alert says when it does not.

A registration can go without any gateway noticing: its owner deleted, the glass broken and never mended, a hook that
failed. From then on Pods are admitted unseen, and everything looks calm. So the leader looks for one webhook for Pods that
calls a Service of the gateways' namespace, or whose configuration bears Moorgate's label.
"""

import asyncio

from services.gateway.metrics import GatewayMetrics
from services.gateway.registration import LABEL, PATH, Registration, registration_of
from shared import logs
from shared.cluster import Cluster
from shared.errors import MoorgateError

LOOK_EVERY = 30.0
"""Seconds; the alert waits for some minutes anyway, as an installation takes."""

PART_OF = ("app.kubernetes.io/part-of", "moorgate")


async def watch_registration(
    cluster: Cluster, namespace: str, metrics: GatewayMetrics, *, look_every: float = LOOK_EVERY
) -> None:
    """Keep `moorgate_degraded{part="registration"}` while leading. Never ends; an API server that is away says nothing."""
    log, complaint = logs.logger("registration"), ""
    degraded = metrics.degraded.labels("registration")
    try:
        while True:
            try:
                found = registration_of(await cluster.request("GET", PATH))
            except MoorgateError as error:
                if complaint != str(error):
                    log.warning("registration_not_looked_at", error=str(error))
                complaint = str(error)
            else:
                complaint = ""
                degraded.set(int(not is_registered(found, namespace)))
            await asyncio.sleep(look_every)
    finally:
        degraded.set(0)


def is_registered(registration: Registration, namespace: str) -> bool:
    """Whether any webhook would ask the gateways of the namespace about a new Pod."""
    for configuration in registration.configurations:
        labels = configuration.metadata.labels
        is_ours = labels.get(LABEL) == namespace or labels.get(PART_OF[0]) == PART_OF[1]
        for webhook in configuration.webhooks:
            service = webhook.client_config.service
            calls_us = service is not None and service.namespace == namespace
            if (is_ours or calls_us) and webhook.sees_new_pods:
                return True
    return False
