"""docs/asyncapi.yaml and docs/schemas/ are what the code makes of them, are valid, and fit what was published."""

import fcntl
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.dev import asyncapi, message_schemas
from deploy.dev.asyncapi import CHANNELS, DOCUMENT, GOLDEN, OPERATIONS
from deploy.dev.message_schemas import MESSAGES, SCHEMAS
from shared import contracts, subjects
from shared.contracts import Message

SPECS = "6.11.1"
"""Of the npm package @asyncapi/specs: AsyncAPI's own JSON Schemas."""


@pytest.mark.parametrize("path", asyncapi.files(), ids=lambda path: path.name)
def test_the_docs_are_what_the_code_says(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == asyncapi.files()[path], "run `make docs`"


def test_no_schema_is_left_of_a_message_that_is_gone() -> None:
    assert set(SCHEMAS.iterdir()) == set(message_schemas.files())


def test_every_message_is_told_of() -> None:
    assert set(MESSAGES) == set(Message.__subclasses__())
    assert {kind for channel in CHANNELS for kind in channel.messages} == set(MESSAGES)
    assert {operation.channel for operation in OPERATIONS} == {channel.name for channel in CHANNELS}


def test_the_addresses_are_those_that_are_published_on() -> None:
    made = {channel.name: channel.address for channel in CHANNELS}
    assert made["decisions"] == subjects.decision_subject("{namespace}")
    assert made["flips"] == subjects.flip_subject("{result}")
    assert made["questions"] == subjects.question_subject("{tenant}")
    assert made["deadLetters"] == subjects.dead_subject("{what}")
    assert made["scans"] == "moorgate.v1.scan.{lane}.{tenant}.{key}"
    assert made["verdicts"] == "$KV.moorgate_verdicts.{key}"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_what_was_ever_published_fits_its_schema(path: Path) -> None:
    message = json.loads(path.read_text(encoding="utf-8"))
    schema = json.loads((SCHEMAS / f"{message['type']}.json").read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    validator(schema).validate(message)
    with pytest.raises(jsonschema.ValidationError):
        validator(schema).validate({**message, "type": "moorgate.v1.other"})
    with pytest.raises(jsonschema.ValidationError):
        validator(schema).validate({key: 1 if key != "type" else value for key, value in message.items()})


def test_a_question_written_by_hand_fits_without_a_type() -> None:
    schema = json.loads((SCHEMAS / "moorgate.v1.verdict-request.json").read_text(encoding="utf-8"))
    jsonschema.validate({"image": "nginx"}, schema)
    contracts.decode(b'{"image": "nginx"}', contracts.VERDICT_REQUEST)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"bundleId": "b"}, schema)


def test_every_reference_leads_somewhere_and_every_example_fits() -> None:
    document = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    for reference in _references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in found, reference
            found = found[part]
    schemas = document["components"]["schemas"]
    for message in document["components"]["messages"].values():
        for example in message["examples"]:
            name = message["payload"]["$ref"].rpartition("/")[2]
            schema = {"components": {"schemas": schemas}, "$ref": f"#/components/schemas/{name}"}
            jsonschema.Draft7Validator(schema).validate(example["payload"])


def test_the_document_is_valid_asyncapi(specification: dict[str, Any]) -> None:
    document = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    validator = jsonschema.Draft7Validator(specification)
    assert [error.message[:300] for error in validator.iter_errors(document)] == []
    document["operations"]["gatewayAnswersQuestions"]["action"] = "listen"
    assert not validator.is_valid(document)


@pytest.fixture(scope="session")
def specification() -> dict[str, Any]:
    """AsyncAPI's own schema of version 3.0.0, fetched once into the user's cache; without npm skipped, but not in CI."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moorgate" / "asyncapi"
    root.mkdir(parents=True, exist_ok=True)
    target = root / f"3.0.0-of-{SPECS}.json"
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _fetch(target)
    loaded: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    return loaded


def _fetch(target: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        _give_up("there is no npm here to fetch AsyncAPI's own schema with: the document is checked by half")
    done = subprocess.run(
        [str(npm), "pack", "--silent", f"@asyncapi/specs@{SPECS}"],
        cwd=target.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    if done.returncode != 0:
        _give_up(f"AsyncAPI's own schema cannot be had: {done.stderr.strip()[-300:]}")
    archive = target.parent / done.stdout.split()[-1]
    with tarfile.open(archive) as packed:
        content = packed.extractfile("package/schemas/3.0.0-without-$id.json")
        assert content is not None
        part = target.with_suffix(".part")
        part.write_bytes(content.read())
    part.rename(target)
    archive.unlink()


def _give_up(message: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _references(value: object) -> list[str]:
    if isinstance(value, list):
        return [found for each in value for found in _references(each)]
    if not isinstance(value, dict):
        return []
    here = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return here + [found for each in value.values() for found in _references(each)]
