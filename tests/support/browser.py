"""A real browser for tests of the page; a missing one is a loud skip, and in CI a failure."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

import pytest

from deploy.dev.browser import Browser, BrowserMissingError, Tab, open_browser, provide


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Chromium, ended when the context closes."""
    try:
        provide()
    except BrowserMissingError as error:
        message = f"THE PAGE IS NOT TESTED IN A BROWSER: {error}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    async with open_browser() as found:
        yield found


async def barriers(tab: Tab) -> list[str]:
    """What axe-core finds that keeps people out of what is shown now, each with where."""
    script = resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    await tab.ask(f"{script}; undefined")
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
    found: list[dict[str, Any]] = await tab.ask(
        f"axe.run(document, {json.dumps(rules)}).then(each => each.violations)"
    )
    return [
        f"{each['id']}: {each['help']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for each in found
        for node in each["nodes"]
    ]
