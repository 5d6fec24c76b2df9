"""What an analysis found: vulnerabilities, content types, metadata, and the two queries by vulnerability."""

import base64
import json

from deploy.dev.anchore.api.images import wanted
from deploy.dev.anchore.calls import Call
from deploy.dev.anchore.catalogue import Vulnerability
from deploy.dev.anchore.errors import not_analyzed, refused
from deploy.dev.anchore.records import ANALYZED, ImageRecord
from deploy.dev.anchore.wire import Json, JsonObject, encode, optional_seconds, whole_seconds

_KINDS = ["os", "non-os", "all"]
_CONTENT_TYPES = ["os", "files", "npm", "gem", "python", "java", "binary", "go", "malware"]
_METADATA_TYPES = ["manifest", "docker_history", "dockerfile"]


def vulnerability_types(call: Call) -> Json:
    """The same for every image."""
    wanted(call)
    return _KINDS


def vulnerabilities(call: Call) -> Json:
    """Echoes the digest that was asked for, unlike a check."""
    kind = call.path["kind"]
    if kind not in _KINDS:
        raise refused(404, f"content type ({kind}) not available")
    record = _analyzed(call)
    if "policy_engine" in call.engine.down:
        url = (
            f"http://127.0.0.1:8232/v1/users/{record.account}/images/{record.image.image_id}/vulnerabilities"
        )
        raise refused(500, f"could not fetch vulnerabilities - exception: failed get url={url}")
    found = [finding for finding in call.engine.findings(record) if kind in {"all", finding.kind}]
    asked = call.path.get("digest", record.image.digest)
    shown = [_show(finding, record) for finding in found]
    return {"imageDigest": asked, "vulnerabilities": shown, "vulnerability_type": kind}


def _analyzed(call: Call) -> ImageRecord:
    record = wanted(call)
    if record.status != ANALYZED:
        raise not_analyzed(record.status)
    return record


def _show(finding: Vulnerability, record: ImageRecord) -> JsonObject:
    content = record.image.content
    is_os = finding.kind == "os"
    return {
        "feed": "vulnerabilities",
        "feed_group": f"{content.distro}:{content.distro_version}" if is_os else f"github:{finding.type}",
        "fix": finding.fix,
        "nvd_data": [],
        "package": f"{finding.package}-{finding.version}",
        "package_cpe": "None",
        "package_cpe23": "None",
        "package_name": finding.package,
        "package_path": finding.path,
        "package_type": finding.type,
        "package_version": finding.version,
        "severity": finding.severity,
        "url": finding.url,
        "vendor_data": [],
        "vuln": finding.id,
        "will_not_fix": False,
    }


def content_types(call: Call) -> Json:
    """The same for every image."""
    wanted(call)
    return _CONTENT_TYPES


def content(call: Call) -> Json:
    """Package lists are not simulated: empty. The error of an image without analysis is the real one, JSON inside JSON."""
    kind = call.path["kind"]
    record = wanted(call)
    if kind not in _CONTENT_TYPES:
        raise refused(404, f"content type ({kind}) not available")
    if record.status != ANALYZED:
        about = {"account_id": record.account, "content_type": kind, "image_digest": record.image.digest}
        text = f"Resource image is not analyzed - analysis_status: {record.status} not found"
        raise refused(500, json.dumps({"message": text, "detail": json.dumps(about), "httpcode": 404}))
    return {"content": [], "content_type": kind, "imageDigest": record.image.digest}


def metadata_types(call: Call) -> Json:
    """The same for every image."""
    wanted(call)
    return _METADATA_TYPES


def metadata(call: Call) -> Json:
    """`dockerfile` is empty unless one was given with the image."""
    kind = call.path["kind"]
    record = wanted(call)
    if kind == "manifest":
        shown: Json = _wrapped(encode(_manifest(record)))
    elif kind == "dockerfile":
        shown = [] if record.given_dockerfile is None else _wrapped(record.given_dockerfile.encode())
    elif kind in _METADATA_TYPES:
        shown = []
    else:
        raise refused(404, f"content type ({kind}) not available")
    return {"imageDigest": record.image.digest, "metadata": shown, "metadata_type": kind}


def _wrapped(text: bytes) -> str:
    return base64.encodebytes(text).decode()


def _manifest(record: ImageRecord) -> JsonObject:
    docker = "application/vnd.docker"
    layer = {"mediaType": f"{docker}.image.rootfs.diff.tar.gzip", "size": 1, "digest": record.image.digest}
    config = {
        "mediaType": f"{docker}.container.image.v1+json",
        "size": 1,
        "digest": f"sha256:{record.image.image_id}",
    }
    kind = f"{docker}.distribution.manifest.v2+json"
    return {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]}


def query_vulnerabilities(call: Call) -> Json:
    """Across all accounts, as feeds are."""
    names = call.query["id"].split(",")
    found: dict[tuple[str, str], JsonObject] = {}
    for space in call.engine.directory.spaces.values():
        for record in space.images.values():
            group = f"{record.image.content.distro}:{record.image.content.distro_version}"
            for finding in call.engine.findings(record):
                if finding.id in names:
                    found.setdefault((finding.id, group), _describe(finding, group))
    return {**_one_page(len(found)), "vulnerabilities": list(found.values())}


def _describe(finding: Vulnerability, group: str) -> JsonObject:
    affected = {"name": finding.package, "type": finding.type, "version": finding.fix, "will_not_fix": False}
    return {
        "affected_packages": [affected],
        "description": None,
        "id": finding.id,
        "link": finding.url,
        "namespace": group,
        "nvd_data": [],
        "references": None,
        "severity": finding.severity,
        "vendor_data": [],
    }


def query_images(call: Call) -> Json:
    """The account's analysed images that have the vulnerability."""
    wanted_id = call.query["vulnerability_id"]
    found = []
    for record in call.space.images.values():
        hits = [finding for finding in call.engine.findings(record) if finding.id == wanted_id]
        if record.status == ANALYZED and hits:
            packages = [_vulnerable_package(finding, record) for finding in hits]
            found.append({"image": _tag_history(record), "vulnerable_packages": packages})
    return {**_one_page(len(found)), "images": found}


def _vulnerable_package(finding: Vulnerability, record: ImageRecord) -> JsonObject:
    return {
        "name": finding.package,
        "namespace": f"{record.image.content.distro}:{record.image.content.distro_version}",
        "severity": finding.severity,
        "type": finding.type,
        "version": finding.version,
    }


def _tag_history(record: ImageRecord) -> JsonObject:
    history = [
        {
            "fulltag": tag.reference.fulltag,
            "registry": tag.reference.registry,
            "repo": tag.reference.repository,
            "tag": tag.reference.tag,
            "tag_detected_at": whole_seconds(tag.detected),
        }
        for tag in record.tags
    ]
    return {
        "analyzed_at": optional_seconds(record.analyzed),
        "imageDigest": record.image.digest,
        "imageId": record.image.image_id,
        "tag_history": history,
    }


def _one_page(count: int) -> JsonObject:
    return {"page": "1", "returned_count": count, "total_count": count}
