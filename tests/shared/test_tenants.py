"""The tenants' file: what it may hold, and one line for every fault that names file, tenant and key and shows no password."""

import os
from pathlib import Path

import pytest

from shared import tenants
from shared.anchore import AnchoreApi
from shared.errors import BadSetting
from shared.settings import Environment
from shared.tenants import Tenant, TenantSource

SECRET = "hunter2-$ecret"
CA = next(
    (
        path
        for path in map(Path, ("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem"))
        if path.exists()
    ),
    None,
)
GOOD = f"""
tenants:
  team-a:
    url: https://anchore-api.anchore:8228
    username: moorgate
    password: "{SECRET}"
"""


def written(folder: Path, text: str, name: str = "tenants.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def entry(**keys: str) -> str:
    """A file of one tenant; a key of "" is left out."""
    plain = {"url": "https://a.example", "username": "ada", "password": f"'{SECRET}'"}
    lines = [f"    {name}: {value}" for name, value in {**plain, **keys}.items() if value]
    return "\n".join(["tenants:", "  team-a:", *lines])


def fault(path: Path) -> str:
    with pytest.raises(BadSetting) as found:
        tenants.read(path)
    text = str(found.value)
    assert SECRET not in text
    assert SECRET not in repr(found.value)
    return text


def test_a_tenant_needs_three_keys(tmp_path: Path) -> None:
    found = tenants.read(written(tmp_path, GOOD))
    assert found.keys() == {"team-a"}
    anchore = found["team-a"].anchore
    assert (anchore.url, anchore.username) == ("https://anchore-api.anchore:8228", "moorgate")
    assert anchore.password.reveal() == SECRET
    assert (anchore.api, anchore.account, anchore.ca_file, anchore.skip_verify) == (
        AnchoreApi.AUTO,
        None,
        None,
        False,
    )
    assert found["team-a"].bundle is None
    assert SECRET not in repr(found)


def test_every_key_and_files_beside_it(tmp_path: Path) -> None:
    written(tmp_path, f"  {SECRET}\n", "team-a.password")
    more = {"account": "team-a", "api": "v2", "bundle": "strict", "insecureSkipVerify": "true"}
    if CA:
        written(tmp_path, CA.read_text(encoding="utf-8"), "ca.pem")
        more["caFile"] = "ca.pem"
    path = written(tmp_path, entry(password="", passwordFile="team-a.password", **more))
    tenant = tenants.read(path)["team-a"]
    anchore = tenant.anchore
    assert (anchore.account, anchore.api, anchore.skip_verify, tenant.bundle) == (
        "team-a",
        AnchoreApi.V2,
        True,
        "strict",
    )
    assert anchore.password.reveal() == SECRET
    assert anchore.ca_file == (str(tmp_path / "ca.pem") if CA else None)


def test_files_may_be_absolute_too(tmp_path: Path) -> None:
    elsewhere = written(tmp_path, SECRET, "elsewhere")
    folder = tmp_path / "mounted"
    folder.mkdir()
    path = written(folder, entry(password="", passwordFile=str(elsewhere)))
    assert tenants.read(path)["team-a"].anchore.password.reveal() == SECRET


def test_no_tenants_are_none(tmp_path: Path) -> None:
    assert tenants.read(written(tmp_path, "tenants: {}")) == {}


def test_an_empty_bundle_is_the_active_one(tmp_path: Path) -> None:
    assert tenants.read(written(tmp_path, entry(bundle="''")))["team-a"].bundle is None


@pytest.mark.parametrize("name", ["a", "0", "team-a", "a" * 40])
def test_good_names(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, GOOD.replace("team-a", f"'{name}'"))
    assert tenants.read(path).keys() == {name}


@pytest.mark.parametrize("name", ["", "Team", "a" * 41, "a_b", "a.b", "a/b", "ä", "a b", "a\\n", "*", ">"])
def test_bad_names(tmp_path: Path, name: str) -> None:
    text = fault(written(tmp_path, GOOD.replace("team-a", f'"{name}"')))
    assert "a name is 1 to 40 of a-z, 0-9 and -" in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (entry(url=""), ["url", "team-a"]),
        (entry(username=""), ["username", "team-a"]),
        (entry(url="anchore:8228"), ["team-a", "url", "must be http(s)://host[:port]"]),
        (entry(url="ftp://anchore"), ["team-a", "url"]),
        (entry(url="http://"), ["team-a", "url"]),
        (entry(url="http://a:99999"), ["team-a", "url"]),
        (entry(url="http://[a"), ["team-a", "url"]),
        (entry(url=f"'https://ada:{SECRET}@a'"), ["team-a", "url holds credentials"]),
        (entry(username="'a:b'"), ["team-a", "username", "':'"]),
        (entry(username="''"), ["team-a", "username", "empty"]),
        (entry(password=""), ["team-a", "either password or passwordFile"]),
        (entry(passwordFile="x"), ["team-a", "either password or passwordFile"]),
        (entry(password="''"), ["team-a", "password is empty"]),
        (entry(password="", passwordFile="nowhere"), ["team-a", "passwordFile", "nowhere", "No such file"]),
        (entry(password="", passwordFile="."), ["team-a", "passwordFile", "directory"]),
        (entry(caFile="nowhere.pem"), ["team-a", "caFile", "nowhere.pem"]),
        (entry(caFile="tenants.yaml"), ["team-a", "caFile", "no certificates"]),
        (entry(api="v3"), ["api", "v3", "team-a"]),
        (entry(colour="blue"), ["colour", "team-a"]),
        (entry(password_file="x"), ["password_file", "team-a"]),
        (entry(insecureSkipVerify="maybe"), ["insecureSkipVerify", "team-a"]),
        (entry(password="12345"), ["password", "team-a"]),
        (entry(password="[1]"), ["password", "team-a"]),
        (entry(account='"a\\nb"'), ["team-a", "account"]),
        (entry(password="", passwordFile='"a\\0b"'), ["team-a", "passwordFile"]),
        ("", []),
        ("[]", []),
        ("tenants:", ["tenants"]),
        ("tenants: []", ["tenants"]),
        ("tenants: {a: null}", ["a"]),
        ("tenants: {1: {}}", []),
        ("tenant: {}", ["tenant"]),
        (f"team-a: {{password: '{SECRET}'}}", []),
    ],
)
def test_every_fault_is_one_line_that_names_it(tmp_path: Path, text: str, says: list[str]) -> None:
    path = written(tmp_path, text)
    said = fault(path)
    assert said.startswith("MOORGATE_TENANTS_FILE: ")
    assert str(path) in said
    assert "\n" not in said
    for word in says:
        assert word in said.removeprefix(f"MOORGATE_TENANTS_FILE: {path}"), said


@pytest.mark.parametrize(
    "text",
    [
        f"tenants:\n  team-a:\n    password: {SECRET}: x\n  url",
        f"tenants:\n  team-a:\n\tpassword: {SECRET}",
        f'tenants:\n  team-a:\n    password: "{SECRET}',
        f"tenants: {{{SECRET}: [}}",
        f"tenants: !!python/object/apply:os.system ['{SECRET}']",
        f"tenants: &a {{x: *{SECRET.replace('$', '')}}}",
        f"tenants:\n  team-a: @{SECRET}",
        "tenants: \x07",
        f"tenants: {{a: {{account: 2026-13-45, password: {SECRET}}}}}",
        "tenants: " + "[" * 5000,
    ],
)
def test_what_is_no_yaml_is_not_quoted(tmp_path: Path, text: str) -> None:
    said = fault(written(tmp_path, text))
    assert "is no YAML" in said
    assert SECRET.replace("$", "") not in said
    assert "\n" not in said


def test_a_name_given_twice_is_a_fault(tmp_path: Path) -> None:
    """The second would silently take the first one's place."""
    two = GOOD + GOOD.replace("tenants:\n", "").lstrip("\n")
    assert "has a key twice (line 7)" in fault(written(tmp_path, two))
    assert "has a key twice (line 6)" in fault(written(tmp_path, entry() + "\n    password: other"))


@pytest.mark.parametrize(
    "url", ["https://a.example#x", "https://a.example?x=1", "https://a.example/ v1", "https://a .b"]
)
def test_an_address_with_more_than_host_port_and_path_is_a_fault(tmp_path: Path, url: str) -> None:
    assert "url" in fault(written(tmp_path, entry(url=f"'{url}'")))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "tenants.yaml"
    path.write_bytes(b"\xff\xfe" + SECRET.encode())
    assert "cannot read" in fault(path)
    (tmp_path / "bad").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in fault(written(tmp_path, entry(password="", passwordFile="bad")))


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    assert "cannot read" in fault(tmp_path / "nowhere.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_nobody_may_read(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    path.chmod(0)
    assert "Permission denied" in fault(path)


# Where they come from.


def loaded(**variables: str) -> TenantSource:
    return tenants.load(Environment({f"MOORGATE_{name}": value for name, value in variables.items()}))


ONE = {"ANCHORE_URL": "http://one.example", "ANCHORE_PASSWORD": SECRET}


def test_the_settings_alone_are_one_tenant() -> None:
    source = loaded(**ONE)
    assert source.path is None
    assert source.read().keys() == {"default"}


def test_the_file_alone_and_beside_the_settings(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    assert loaded(TENANTS_FILE=str(path)).read().keys() == {"team-a"}
    assert loaded(TENANTS_FILE=str(path), **ONE).read().keys() == {"team-a", "default"}


def test_neither_is_a_fault() -> None:
    with pytest.raises(BadSetting, match="MOORGATE_ANCHORE"):
        loaded()


def test_default_in_both_is_a_fault_and_in_one_is_not(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD.replace("team-a", "default"))
    assert loaded(TENANTS_FILE=str(path)).read().keys() == {"default"}
    with pytest.raises(BadSetting, match=r"tenant default, and MOORGATE_ANCHORE_URL is set: keep one"):
        loaded(TENANTS_FILE=str(path), **ONE)


def test_a_bad_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="is no YAML"):
        loaded(TENANTS_FILE=str(written(tmp_path, "tenants: [")))


def test_a_change_is_seen_and_is_a_change(tmp_path: Path) -> None:
    path = written(tmp_path, entry())
    source = loaded(TENANTS_FILE=str(path))
    before = source.read()
    assert source.read() == before
    seen: list[Tenant] = []
    for change in (
        {"password": "other"},
        {"url": "http://b"},
        {"username": "bob"},
        {"account": "x"},
        {"api": "v1"},
        {"bundle": "x"},
        {"insecureSkipVerify": "true"},
    ):
        written(tmp_path, entry(**change))
        tenant = source.read()["team-a"]
        assert tenant != before["team-a"], change
        assert tenant not in seen
        seen.append(tenant)
