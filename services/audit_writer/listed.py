"""Pods and namespaces as the API server lists them, a page at a time: for the inventory, and for whoever looks as it does."""

import msgspec

from services.audit_writer.pods import Pod
from shared.cluster import ListMeta
from shared.objects import ObjectMeta


class _Pods(msgspec.Struct, frozen=True):
    items: list[Pod]
    metadata: ListMeta = ListMeta()


class _Namespace(msgspec.Struct, frozen=True):
    metadata: ObjectMeta


class _Namespaces(msgspec.Struct, frozen=True):
    items: list[_Namespace]
    metadata: ListMeta = ListMeta()


PODS, NAMESPACES = msgspec.json.Decoder(_Pods), msgspec.json.Decoder(_Namespaces)
"""Of one page."""
