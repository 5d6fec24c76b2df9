"""Manifests read as a pipeline has them: whatever stands there, what is read is all of it, or one line that says why not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.dev.services import ROOT
from services.cli.manifest import files
from shared.errors import BadSetting

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  initContainers: [{name: init, image: init:1}]
  containers: [{name: main, image: nginx:1.25}]
  volumes: [{name: model, image: {reference: model:1}}]
"""
CRON = """
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: night}
spec: {jobTemplate: {spec: {template: {metadata: {labels: {release: r}}, spec: {containers: [{name: a, image: b:1}]}}}}}
"""
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: night, labels: {tier: dev}}\n"
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: b}\n"


def read(tmp_path: Path, *texts: str) -> files.Found:
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.yaml").write_text(text, encoding="utf-8")
    return files.read((str(tmp_path),), "here")


def test_every_image_of_every_workload_is_found(tmp_path: Path) -> None:
    found = read(tmp_path, f"{POD}---\n---\n{CONFIG}---\n{NAMESPACE}", CRON)
    pod, cron = (each.workload for each in found.manifests)
    assert [each.image for each in pod.images] == ["init:1", "nginx:1.25", "model:1"]
    assert (pod.namespace, cron.namespace, cron.labels) == ("here", "night", {"release": "r"})
    assert found.namespaces == {"night": {"tier": "dev"}}
    assert found.manifests[0].where.endswith("0.yaml, document 1")


def test_lists_are_opened_and_json_is_yaml(tmp_path: Path) -> None:
    items = POD.replace("\n", "\n  ").strip()
    text = f"apiVersion: v1\nkind: List\nitems:\n- {items}\n"
    (tmp_path / "a.json").write_text(
        '{"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"image": "x:1"}]}}'
    )
    found = read(tmp_path, text)
    assert [each.where.rpartition("/")[2] for each in found.manifests] == [
        "0.yaml, document 1, item 1",
        "a.json, document 1",
    ]


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
@pytest.mark.parametrize("beginning", ["\ufeff", ""])
def test_other_machines_files_are_read(tmp_path: Path, ending: str, beginning: str) -> None:
    (tmp_path / "a.yaml").write_bytes((beginning + POD.replace("\n", ending)).encode())
    assert len(files.read((str(tmp_path / "a.yaml"),), "here").manifests) == 1


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]\n"
    for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is no YAML"),
        ("kind: Pod\nkind: Pod\n", "has a key twice"),
        ("just text", "is no manifest"),
        ("- a\n- b\n", "is no manifest"),
        ("kind: Pod\n", "is no manifest"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n", "spec"),
        ("apiVersion: v1\nkind: Pod\nspec: {containers: nginx}\n", "containers"),
        ("apiVersion: v1\nkind: Pod\nspec: {containers: [{image: 5}]}\n", "image"),
        (f"apiVersion: v1\nkind: Pod\n{BOMB}spec: {{containers: [{{image: x}}]}}\n", "values"),
        ("apiVersion: v1\nkind: Pod\nspec: &s {containers: [], again: *s}\n", "values"),
    ],
    ids=["YAML", "twice", "text", "list", "no version", "no spec", "no list", "no text", "bomb", "circle"],
)
def test_what_is_no_manifest_is_one_line_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadSetting, match=r"0\.yaml") as error:
        read(tmp_path, text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    for name, said in ((tmp_path / "none.yaml", "cannot read"), (tmp_path, "there is no")):
        with pytest.raises(BadSetting, match=said):
            files.read((str(name),), "here")
    with pytest.raises(BadSetting, match="name a file"):
        files.read((), "here")


@pytest.mark.parametrize(
    ("typed", "given", "code", "said"),
    [
        (("-", "--namespace", "shop"), POD, 3, "nats is away"),
        (("--namespace", "shop", "-"), "a: [", 2, "is no YAML"),
        (("--namespac", "shop", "-"), POD, 2, "unknown option --namespac"),
    ],
)
def test_stdin_is_a_dash(tmp_path: Path, typed: tuple[str, ...], given: str, code: int, said: str) -> None:
    policies = tmp_path / "policies.yaml"
    policies.write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "manifest", "check", "--policies", policies, *typed],
        input=given,
        text=True,
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "MOORGATE_NATS_URL": "nats://127.0.0.1:1"},
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
