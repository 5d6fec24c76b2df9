"""Every kind of setting: what is taken, and the one line that names the setting where it is not."""

import logging
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.errors import BadSetting
from shared.settings import KNOWN, Environment, Listen, Secret, parse_duration

NAME = "MOORGATE_MAX_WAIT"


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


def environment(**variables: str) -> Environment:
    return Environment({f"MOORGATE_{name}": value for name, value in variables.items()})


def refused(value: str) -> Environment:
    return Environment({NAME: value})


def test_a_text_is_the_default_only_where_it_is_not_set_or_empty() -> None:
    assert environment(MAX_WAIT="x").text(NAME) == "x"
    assert environment(MAX_WAIT="").text(NAME, "d") == "d"
    assert environment().text(NAME, "d") == "d"
    assert environment().text(NAME, "") == ""
    for missing in (environment(), environment(MAX_WAIT="")):
        with pytest.raises(BadSetting, match=f"{NAME} is not set: it is required"):
            missing.text(NAME)
        assert missing.optional(NAME) is None
    assert environment(MAX_WAIT="x").optional(NAME) == "x"


def test_words_are_separated_by_commas() -> None:
    assert environment(RELEASE_LABELS=" a, b/c ,,").words("MOORGATE_RELEASE_LABELS", "x") == ("a", "b/c")
    assert environment().words("MOORGATE_RELEASE_LABELS", "release,b") == ("release", "b")


DURATIONS = {
    "90s": 90,
    "6h": 21600,
    "1h30m": 5400,
    "250ms": 0.25,
    "1.5s": 1.5,
    "0": 0,
    "0s": 0,
    "1m1ms": 60.001,
}
NO_DURATIONS = [
    "",
    "5",
    "s",
    "-5s",
    "5 s",
    "5S",
    "1d",
    "5s ",
    "5s\n",
    "\u0661s",
    "1e3s",
    "five",
    "s5",
    ".5s",
    "5us",
    "876001h",
    "9" * 400 + "h",
]


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items())
def test_durations_are_written_as_in_go(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)
    assert environment(MAX_WAIT=text).duration(NAME, "1s") == pytest.approx(seconds)


@pytest.mark.parametrize("text", NO_DURATIONS)
def test_what_is_no_duration_is_named_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        parse_duration(text)
    if text:
        with pytest.raises(BadSetting, match=f"^{NAME} is .*: it must be a duration such as 90s"):
            refused(text).duration(NAME, "1s")


def test_what_is_no_text_is_refused_before_anything_would_send_it() -> None:
    with pytest.raises(BadSetting, match=r"^MOORGATE_ANCHORE_PASSWORD is not UTF-8 text$"):
        environment(ANCHORE_PASSWORD="\udcff")


def test_a_duration_may_have_a_least_value() -> None:
    assert environment(MAX_WAIT="1s").duration(NAME, "9s", minimum=1) == 1
    with pytest.raises(BadSetting, match=f"{NAME} is '999ms': it must be at least 0:00:01"):
        refused("999ms").duration(NAME, "9s", minimum=1)


@pytest.mark.parametrize("text", ["-1", "0", "1.5", "x", " 1", "\u0661", "1_000", "0x1", "9" * 5000, "1\n"])
def test_what_is_no_whole_number_of_at_least_one_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match=f"^{NAME} is '.*': it must be a whole number of at least 1$"):
        refused(text).integer(NAME, 3)


def test_whole_numbers() -> None:
    assert environment(MAX_WAIT="42").integer(NAME, 3) == 42
    assert environment().integer(NAME, 3) == 3
    assert environment(MAX_WAIT="0").integer(NAME, 3, minimum=0) == 0


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("1", True), ("0", False)])
def test_flags(text: str, *, value: bool) -> None:
    assert environment(MAX_WAIT=text).flag(NAME, default=not value) is value
    assert environment().flag(NAME, default=value) is value


@pytest.mark.parametrize("text", ["yes", "on", " true", "2", "tru"])
def test_what_is_no_flag_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match=f"{NAME} is .*: it must be true or false"):
        refused(text).flag(NAME, default=True)


def test_choices() -> None:
    assert environment(MAX_WAIT="blue").choice(NAME, Colour, Colour.RED) is Colour.BLUE
    assert environment().choice(NAME, Colour, Colour.RED) is Colour.RED
    with pytest.raises(BadSetting, match=f"{NAME} is 'Red': it must be one of red, blue"):
        refused("Red").choice(NAME, Colour, Colour.RED)


LISTENS = {
    "0.0.0.0:9090": Listen("0.0.0.0", 9090),
    ":9090": Listen("0.0.0.0", 9090),
    "localhost:0": Listen("localhost", 0),
    "[::1]:65535": Listen("::1", 65535),
}


@pytest.mark.parametrize(("text", "listen"), LISTENS.items())
def test_addresses_to_listen_on(text: str, listen: Listen) -> None:
    assert environment(MAX_WAIT=text).listen(NAME, "0.0.0.0:1") == listen


@pytest.mark.parametrize(
    "text", ["9090", "host:", "host:http", "host:65536", "host:-1", "host:\u0661", "h:" + "9" * 5000]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match=f"{NAME} is .*: it must be host:port"):
        refused(text).listen(NAME, "0.0.0.0:1")


def test_a_file_must_be_readable_now(tmp_path: Path) -> None:
    good = tmp_path / "cert.pem"
    good.write_text("x")
    name = "MOORGATE_TLS_CERT_FILE"
    assert environment(TLS_CERT_FILE=str(good)).file(name) == good
    assert environment().file(name) is None
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(BadSetting, match=f"^{name}: cannot read {path}: {reason}"):
            environment(TLS_CERT_FILE=str(path)).file(name)
    good.write_bytes(b"\xff\xfe")
    with pytest.raises(BadSetting, match="not UTF-8"):
        environment(TLS_CERT_FILE=str(good)).file(name)


def test_a_secret_comes_from_the_environment_or_a_file_but_not_both(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-file\n")
    name = "MOORGATE_PATH_SECRET"
    for secret, expected in (
        (environment(PATH_SECRET="direct").secret(name), "direct"),
        (environment(PATH_SECRET_FILE=str(file)).secret(name), "from-file"),
    ):
        assert secret is not None
        assert secret.reveal() == expected
    assert environment().secret(name) is None
    with pytest.raises(BadSetting, match=f"{name} and {name}_FILE are both set"):
        environment(PATH_SECRET="a", PATH_SECRET_FILE=str(file)).secret(name)
    file.write_text(" \n")
    with pytest.raises(BadSetting, match=f"{name}_FILE: {file} is empty"):
        environment(PATH_SECRET_FILE=str(file)).secret(name)
    with pytest.raises(BadSetting, match=f"{name}_FILE: cannot read"):
        environment(PATH_SECRET_FILE=str(tmp_path / "none")).secret(name)


class Holder(msgspec.Struct, frozen=True):
    password: Secret


def test_a_secret_never_prints(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret("hunter2")
    logging.getLogger("test").warning("%s %r", secret, {"a": [secret]})
    shown = [repr(secret), str(secret), f"{secret}", f"{Holder(secret)!r}", caplog.text, str(vars_of(secret))]
    assert "hunter2" not in " ".join(shown)
    with pytest.raises(TypeError):
        msgspec.json.encode(Holder(secret))


def vars_of(secret: Secret) -> object:
    return getattr(secret, "__dict__", None)


@pytest.mark.parametrize(
    "name", ["MOORGATE_TYPO", "MOORGATE_", "MOORGATE_MAX_WAIT_FILE", "MOORGATE_max_wait"]
)
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(BadSetting, match=f"^{name} is no setting of Moorgate"):
        Environment({name: "x"})


def test_every_known_name_and_every_secret_by_file_is_taken() -> None:
    files = ("NATS_PASSWORD", "PATH_SECRET", "ANCHORE_PASSWORD")
    names = {*KNOWN, *(f"MOORGATE_{name}_FILE" for name in files)}
    names -= {"MOORGATE_CLUSTER", "MOORGATE_POLICIES_FILE"}  # read at once, below
    Environment(dict.fromkeys(names, "x"))
    Environment({"PATH": "/bin", "KUBECONFIG": "x", "moorgate_x": "other programs' names are none of ours"})


@pytest.mark.parametrize(
    "service", ["MOORGATE", "MOORGATE_GATEWAY", "MOORGATE_AUDIT_WRITER_PAGE", "MOORGATE_2"]
)
def test_what_the_kubelet_adds_for_a_service_is_tolerated(service: str) -> None:
    links = (
        *(
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_HTTPS",
            "PORT",
            "PORT_8443_TCP",
            "PORT_8443_TCP_PROTO",
        ),
        *("PORT_8443_TCP_PORT", "PORT_8443_TCP_ADDR", "PORT_53_UDP_ADDR"),
    )
    Environment({f"{service}_{link}": "tcp://10.0.0.1:8443" for link in links})


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
@hypothesis_settings(deadline=None)
def test_whatever_is_set_is_taken_or_refused_by_name(value: str) -> None:
    given_ = Environment({NAME: value})
    for read in (
        lambda: given_.duration(NAME, "1s", minimum=1),
        lambda: given_.integer(NAME, 1),
        lambda: given_.flag(NAME, default=True),
        lambda: given_.choice(NAME, Colour, Colour.RED),
        lambda: given_.listen(NAME, "0.0.0.0:1"),
        lambda: given_.file(NAME),
    ):
        line = refusal(read)
        assert line is None or line.startswith(NAME)


def refusal(read: Callable[[], object]) -> str | None:
    try:
        read()
    except BadSetting as error:
        return str(error)
    return None


@pytest.mark.parametrize(("name", "value"), [("TENANTS_FILE", ""), ("CLUSTER", "auto")])
def test_the_value_that_is_true_anyway_is_accepted(name: str, value: str) -> None:
    Environment({f"MOORGATE_{name}": value})


def test_policies_come_from_a_file_only_where_there_is_no_cluster() -> None:
    variables = {"MOORGATE_POLICIES_FILE": "/policies.yaml"}
    with pytest.raises(
        BadSetting, match=r"^MOORGATE_POLICIES_FILE is set, and policies come from the cluster"
    ):
        Environment(variables)
    assert not Environment({**variables, "MOORGATE_CLUSTER": "none"}).has_cluster
    assert Environment({}).has_cluster
    with pytest.raises(BadSetting, match=r"^MOORGATE_CLUSTER is 'some': it must be one of auto, none"):
        Environment({"MOORGATE_CLUSTER": "some"})
