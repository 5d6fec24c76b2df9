"""The messages: what the services and other tools say to one another over NATS.

Each is a frozen Struct, tagged with its type and version. New fields need defaults and meanings
never change, so that a newer scanner works with an older gateway and the other way round; a break
is a new tag on a new subject. Unknown fields are tolerated. tests/contracts/golden/ keeps every
version ever published; decoding those is a test for ever. docs/asyncapi.yaml is made from them.

Times are UTC (RFC 3339). Schema evolution: https://jcristharif.com/msgspec/schema-evolution.html
"""

from shared.contracts.dead_letters import DEAD_LETTER, DeadLetter
from shared.contracts.decisions import (
    ADMISSION_DECIDED,
    Action,
    AdmissionDecided,
    ContainerKind,
    ImageDecision,
    Mode,
    Outcome,
    OwnerClaim,
)
from shared.contracts.flips import MAX_WORKLOADS, VERDICT_FLIPPED, AffectedWorkload, FlipCause, VerdictFlipped
from shared.contracts.questions import (
    DEFAULT_ANSWER_WITHIN,
    MAX_ANSWER_WITHIN,
    VERDICT_ANSWER,
    VERDICT_REQUEST,
    VerdictAnswer,
    VerdictRequest,
)
from shared.contracts.scans import (
    MAX_REASONS,
    SCAN_REQUEST,
    SCAN_STATE,
    TENANT_RECORD,
    VERDICT,
    ErrorClass,
    Reason,
    Result,
    RunningDigest,
    ScanError,
    ScanPending,
    ScanRequest,
    ScanState,
    Tenant,
    TenantRecord,
    Utc,
    Verdict,
)
from shared.messages import MAX_MESSAGE_BYTES, Decoder, M, Message, decode, encode

__all__ = [
    "ADMISSION_DECIDED",
    "DEAD_LETTER",
    "DEFAULT_ANSWER_WITHIN",
    "MAX_ANSWER_WITHIN",
    "MAX_MESSAGE_BYTES",
    "MAX_REASONS",
    "MAX_WORKLOADS",
    "SCAN_REQUEST",
    "SCAN_STATE",
    "TENANT_RECORD",
    "VERDICT",
    "VERDICT_ANSWER",
    "VERDICT_FLIPPED",
    "VERDICT_REQUEST",
    "Action",
    "AdmissionDecided",
    "AffectedWorkload",
    "ContainerKind",
    "DeadLetter",
    "Decoder",
    "ErrorClass",
    "FlipCause",
    "ImageDecision",
    "M",
    "Message",
    "Mode",
    "Outcome",
    "OwnerClaim",
    "Reason",
    "Result",
    "RunningDigest",
    "ScanError",
    "ScanPending",
    "ScanRequest",
    "ScanState",
    "Tenant",
    "TenantRecord",
    "Utc",
    "Verdict",
    "VerdictAnswer",
    "VerdictFlipped",
    "VerdictRequest",
    "decode",
    "encode",
]
