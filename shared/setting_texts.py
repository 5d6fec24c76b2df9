"""What each setting is for: the text beside it in docs/reference/settings.md.

Type, default and bounds are taken from the code that reads a setting; only what it means is said here. A test wants a
text for every name in `settings.KNOWN`. A secret's text also stands for its `…_FILE`.
"""

TEXTS = {
    f"MOORGATE_{name}": text
    for name, text in {
        "NAMESPACE": "Where Moorgate runs: its Leases and Secrets are there.",
        "NATS_URL": "Where NATS is: `nats://host:port` (or `tls`, `ws`, `wss`), or several of one kind with commas.",
        "NATS_USER": "The user at NATS. Answers come to inboxes `_INBOX_<user>`.",
        "NATS_PASSWORD": "The user's password.",
        "NATS_CREDS_FILE": "A NATS credentials file (JWT and seed), instead of user and password.",
        "NATS_CA_FILE": "The authorities that NATS' certificate is checked by; without it those of the system.",
        "NATS_CERT_FILE": "A client certificate for NATS; belongs together with its key.",
        "NATS_KEY_FILE": "The key of the client certificate.",
        "NATS_REPLICAS": "How many NATS servers keep each message: 1 or 3.",
        "CLUSTER": "`auto`: the cluster of `KUBECONFIG`, else the one the process runs in. `none`: no cluster at all "
        "([without-a-cluster.md](../without-a-cluster.md)).",
        "POLICIES_FILE": "ImagePolicies from a file, read again while running; only with `MOORGATE_CLUSTER=none`.",
        "METRICS_LISTEN": "Plain HTTP for `/metrics`, `/healthz` and `/readyz`; nothing else is served there.",
        "LOG_LEVEL": "The least that is logged.",
        "LOG_FORMAT": "`json`: one event a line. `console`: for people.",
        "LISTEN": "Where the API server reaches the gateway, over TLS.",
        "TLS_CERT_FILE": "The gateway's certificate chain, read again when it changes. Required with the issuer `file`.",
        "TLS_KEY_FILE": "Its key.",
        "TLS_ISSUER": "Who makes the gateways' certificate: `file`, somebody else; `self`, the gateways "
        "([certificates.md](../certificates.md)).",
        "CLIENT_CA_FILE": "Authorities of the client certificates that callers must show. Whoever may post can forge "
        "records: this, the path secret or `MOORGATE_ALLOW_ANY_CALLER` is required.",
        "PATH_SECRET": "The secret last part of `/imagecheck/<secret>`: letters, digits and `. _ ~ -`.",
        "ALLOW_ANY_CALLER": "Take AdmissionReviews of anybody. For trying things out.",
        "WHITELIST_CLUSTER_WIDE": "Whether a WhiteListItem without namespaces counts everywhere, or nowhere. Give gateways "
        "and audit-writers the same.",
        "MAX_WAIT": "How long an admission waits for an unknown verdict before it is put off; never longer than the API "
        "server's own timeout allows.",
        "DEADLINE_MARGIN": "Kept back from the API server's timeout for the way home.",
        "SCAN_RATE": "How many never-seen references one namespace may have scanned: `50/min`, also `/s` and `/h`.",
        "OUTBOX_DIR": "Where decisions are kept until NATS has acknowledged them.",
        "OUTBOX_SIZE": "What the outbox may take, in its folder or in memory.",
        "DECISION_DURABILITY": "What an answer waits for: `outbox`, the decision is in the outbox; `ack`, NATS has it.",
        "ON_UNRECORDED": "What is answered where a decision can be recorded nowhere: `answer`, as decided; `deny`.",
        "RELEASE_LABELS": "The labels of a Pod that may name its release; the first it has counts. Give gateways and "
        "audit-writers the same.",
        "MODE": "How images are judged that no ImagePolicy matches. Give gateways and audit-writers the same.",
        "ON_PENDING": "What becomes of them while a scan is under way: `retry` puts the Pod off, `allow` lets it in with "
        "a warning, `deny` refuses it.",
        "ON_ERROR": "What becomes of them where no verdict can be had.",
        "ANCHORE_URL": "The Anchore of the tenant `default`: `http(s)://host[:port]`. Required without a tenants file.",
        "ANCHORE_API": "`v1`: Anchore Engine. `v2`: Anchore Enterprise. `auto`: found out.",
        "ANCHORE_USERNAME": "The user at Anchore.",
        "ANCHORE_PASSWORD": "Its password. Required with `MOORGATE_ANCHORE_URL`.",
        "ANCHORE_CA_FILE": "The authorities that Anchore's certificate is checked by; without it those of the system.",
        "ANCHORE_INSECURE_SKIP_VERIFY": "Check Anchore's certificate by nothing. Whoever is in between then decides what runs.",
        "SCANNER_CONCURRENCY": "Scans at once, a lane and tenant, and calls of one kind to its Anchore: an upper bound; "
        "fewer where Anchore is slow.",
        "PASS_TTL": "How long a pass is fresh; `0` scans at every admission.",
        "FAIL_TTL": "How long a fail is fresh.",
        "TAG_TTL": "How long a verdict is fresh at most that was found through a tag, which may move.",
        "KNOWN_TTL": "How long a verdict is kept, fresh or not: for so long a refused image stays refused while Anchore is away.",
        "PENDING_LIMIT": "How long an analysis may take before it counts as an error.",
        "ON_UNMAPPED": "What an image is that no mapping of the bundle matches.",
        "TENANTS_FILE": "Several Anchore accounts, read again while running ([scanning.md](../scanning.md#tenants)).",
        "NOTIFICATIONS_LISTEN": "Where Anchore's notifications are taken, over TLS; not set: nowhere.",
        "NOTIFICATIONS_CERT_FILE": "The certificate chain of that port, read again when it changes. Required with it.",
        "NOTIFICATIONS_KEY_FILE": "Its key.",
        "NOTIFICATIONS_SECRET": "What Anchore must send as its password. Required with the port.",
        "AUDIT_RETENTION": "How long an Audit that no owner takes along is kept after its newest decision.",
        "INVENTORY_INTERVAL": "How often what runs is listed.",
        "RESCAN_INTERVAL": "In which time everything that runs is scanned again.",
        "NOTIFY_FILE": "Who is told of flips ([notifications.md](../notifications.md)).",
        "REPORTS": "What is written beside Audits ([audits.md](../audits.md#reports)).",
        "PAGE_LISTEN": "Where the web page is served, over TLS ([page.md](../page.md)); not set: nowhere.",
        "PAGE_CERT_FILE": "The certificate chain of that port, read again when it changes. Required with it.",
        "PAGE_KEY_FILE": "Its key.",
        "BOOTSTRAP_FILE": "What `moorgate bootstrap` is to make ([bootstrap.md](../bootstrap.md)).",
    }.items()
}
