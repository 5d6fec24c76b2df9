"""Whether the environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY) names a proxy for a neighbour, asked once.

aiohttp's `trust_env` reads environment and netrc file for every request, in a thread: for a neighbour that is asked
hundreds of times a second that was a third of what asking cost. So it is used only where there is a proxy.
"""

from urllib.request import getproxies, proxy_bypass

from yarl import URL


def has_proxy(neighbour: str) -> bool:
    """Whether requests to this URL go through a proxy."""
    url = URL(neighbour)
    return url.scheme in getproxies() and not (url.host and proxy_bypass(url.host))
