"""The page's metrics, where it is on. Every label's values are enumerated."""

from prometheus_client import Counter, Gauge

from shared.metrics import CommonMetrics

VIEWS = (
    "overview",
    "audits",
    "audit",
    "releases",
    "trend",
    "live",
    "sign-in",
    "sign-in-form",
    "sign-out",
    "static",
    "other",
)
SIGN_INS = ("accepted", "refused", "limited", "failed")


class PageMetrics:
    """Who looks, and how it goes."""

    def __init__(self, common: CommonMetrics) -> None:
        registry, self.degraded = common.registry, common.degraded
        self.requests = Counter(
            "moorgate_page_requests_total",
            "Requests to the page, by the class of the answer's status.",
            ["view", "code"],
            registry=registry,
        )
        self.streams = Gauge(
            "moorgate_page_streams", "Browsers that are told of changes as they come.", registry=registry
        )
        self.sign_ins = Counter(
            "moorgate_page_sign_ins_total",
            "Tokens given at the form: accepted, refused by the API server, limited (too many), failed (nobody to ask).",
            ["result"],
            registry=registry,
        )
        self.audits = Gauge(
            "moorgate_page_audits",
            "Audits that the page keeps, and those it had no room for.",
            ["kept"],
            registry=registry,
        )
        self.certificate_not_after = Gauge(
            "moorgate_certificate_not_after_seconds",
            "When the certificate of the page's port ends, in seconds since 1970.",
            registry=registry,
        )
        for result in SIGN_INS:
            self.sign_ins.labels(result)
        for kept in ("yes", "no"):
            self.audits.labels(kept)
