"""Which API a tenant's Anchore speaks: asked once, and again after it was away, for it may have been replaced."""

import asyncio

from services.scanner.anchore import Anchore, Bundle, Evaluation, Image
from services.scanner.anchore_v1 import AnchoreV1
from services.scanner.anchore_v2 import AnchoreV2
from services.scanner.calls import Calls
from services.scanner.failures import ScanFailed
from shared import logs
from shared.anchore import AnchoreApi
from shared.contracts import ErrorClass
from shared.errors import Unavailable
from shared.images import ImageReference


def client(api: AnchoreApi, calls: Calls) -> Anchore:
    """The client for a known API, or one that finds out which."""
    if api is AnchoreApi.AUTO:
        return DetectingAnchore(calls)
    return AnchoreV1(calls) if api is AnchoreApi.V1 else AnchoreV2(calls)


class DetectingAnchore:
    """The client of whichever API answers."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._found: Anchore | None = None
        self._finding = asyncio.Lock()

    async def add_image(self, reference: ImageReference) -> Image:
        """See `Anchore`."""
        return await (await self._client()).add_image(reference)

    async def image(self, digest: str) -> Image | None:
        """See `Anchore`."""
        return await (await self._client()).image(digest)

    async def check(
        self, digest: str, reference: ImageReference, bundle_id: str, operation: str = "check"
    ) -> Evaluation:
        """See `Anchore`."""
        return await (await self._client()).check(digest, reference, bundle_id, operation)

    async def bundles(self) -> list[Bundle]:
        """See `Anchore`. After no answer, or one that makes no sense, the API is found out anew next time."""
        try:
            return await (await self._client()).bundles()
        except Unavailable:
            self._found = None
            raise
        except ScanFailed as error:
            if error.error is ErrorClass.ANCHORE_NOT_UNDERSTOOD:
                self._found = None
            raise

    async def _client(self) -> Anchore:
        async with self._finding:  # the first scans all want to know at once
            if self._found is None:
                api = await self._calls.detect()
                logs.logger("detection").info("anchore_api", api=api.value)
                self._found = client(api, self._calls)
            return self._found
