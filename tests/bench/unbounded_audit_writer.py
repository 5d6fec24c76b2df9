"""The audit-writer without its bound on writes, which is there to spare the API server: a bench asks what the code itself costs."""

import sys

from services.audit_writer import __main__ as service
from services.audit_writer import app
from services.audit_writer.rates import WriteRate


class _Unbounded(WriteRate):
    async def take(self) -> None:
        """At once."""


if __name__ == "__main__":
    vars(app)["WriteRate"] = _Unbounded  # nobody else makes one
    sys.exit(service.main())
