"""The door: what it takes, what it refuses, and that nobody who is inside is put out."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import pytest
import trustme
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from prometheus_client import CollectorRegistry

from services.gateway.metrics import GatewayMetrics
from shared.certificates import (
    BadCertificate,
    CertificateFiles,
    Certificates,
    KeyPair,
    require_usable,
    server_context,
)
from shared.errors import BadSetting

CA = trustme.CA()


def issue(ca: trustme.CA = CA) -> KeyPair:
    leaf = ca.issue_cert("127.0.0.1")
    return KeyPair(b"".join(each.bytes() for each in leaf.cert_chain_pems), leaf.private_key_pem.bytes())


def serial(pair: KeyPair) -> int:
    return x509.load_pem_x509_certificate(pair.certificate).serial_number


class Mount:
    """A folder as the kubelet keeps a mounted Secret: links to `..data`, which is swapped at one stroke."""

    def __init__(self, folder: Path, pair: KeyPair) -> None:
        self.folder = folder
        self.files = CertificateFiles(folder / "tls.crt", folder / "tls.key")
        self.swaps = 0
        self.swap(pair)
        for file in ("tls.crt", "tls.key"):
            (folder / file).symlink_to(Path("..data") / file)

    def swap(self, pair: KeyPair) -> None:
        self.swaps += 1
        new = self.folder / f"..{self.swaps}"
        new.mkdir()
        (new / "tls.crt").write_bytes(pair.certificate)
        (new / "tls.key").write_bytes(pair.key)
        link = self.folder / "..data_tmp"
        link.symlink_to(new.name)
        os.replace(link, self.folder / "..data")  # noqa: PTH105  as the kubelet does it


@pytest.fixture
def first() -> KeyPair:
    return issue()


@pytest.fixture
def mount(tmp_path: Path, first: KeyPair) -> Mount:
    return Mount(tmp_path, first)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def certificates_of(mount: Mount, registry: CollectorRegistry, client_ca: Path | None = None) -> Certificates:
    return Certificates(mount.files, client_ca, GatewayMetrics(registry), look_every=0.05)


@asynccontextmanager
async def listening(certificates: Certificates) -> AsyncIterator[int]:
    """A server that answers each line; gives its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(b"re: " + line)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=certificates.door)
    async with server:
        yield server.sockets[0].getsockname()[1]


class Caller:
    """One TLS connection."""

    def __init__(self, port: int, ca: trustme.CA = CA, own: trustme.LeafCert | None = None) -> None:
        self.context = ssl.create_default_context()
        ca.configure_trust(self.context)
        if own:
            own.configure_cert(self.context)
        self.port = port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def ask(self) -> bytes:
        self.writer.write(b"hello\n")
        return await asyncio.wait_for(self.reader.readline(), 5)

    @property
    def serial(self) -> int:
        shown = self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown).serial_number


async def _new_for_new_connections_old_for_open_ones(mount: Mount, first: KeyPair) -> None:
    certificates, second = certificates_of(mount, CollectorRegistry()), issue()
    await certificates.look()
    async with listening(certificates) as port, Caller(port) as early:
        assert early.serial == serial(first)
        mount.swap(second)
        await certificates.look()
        async with Caller(port) as late:
            assert late.serial == serial(second)
            assert await late.ask() == b"re: hello\n"
        assert early.serial == serial(first)
        assert await early.ask() == b"re: hello\n"


@pytest.mark.parametrize(
    "loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_new_connections_get_the_new_certificate_and_open_ones_go_on(
    mount: Mount, first: KeyPair, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_new_for_new_connections_old_for_open_ones(mount, first))


async def test_a_rotation_is_noticed_by_itself_and_readiness_comes_with_the_first(
    mount: Mount, registry: CollectorRegistry
) -> None:
    certificates, second, ready = certificates_of(mount, registry), issue(), asyncio.Event()
    task = asyncio.create_task(certificates.run(ready.set))
    await asyncio.wait_for(ready.wait(), 5)
    mount.swap(second)
    async with listening(certificates) as port, asyncio.timeout(5):
        while True:
            async with Caller(port) as caller:
                if caller.serial == serial(second):
                    break
    task.cancel()
    expected = x509.load_pem_x509_certificate(second.certificate).not_valid_after_utc.timestamp()
    assert registry.get_sample_value("moorgate_certificate_not_after_seconds") == expected


def cut(pair: KeyPair) -> KeyPair:
    return KeyPair(pair.certificate[:-100], pair.key)


def with_half_an_intermediate(pair: KeyPair) -> KeyPair:
    return KeyPair(pair.certificate + CA.cert_pem.bytes()[:-100], pair.key)


def with_password(pair: KeyPair) -> KeyPair:
    key = serialization.load_pem_private_key(pair.key, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    return KeyPair(pair.certificate, locked)


@pytest.mark.parametrize(
    "broken",
    [
        KeyPair(issue().certificate, issue().key),
        cut(issue()),
        KeyPair(issue().certificate, issue().key[:60]),
        KeyPair(issue().certificate, b""),
        KeyPair(b"", issue().key),
        KeyPair(b"\xff\xfe", b"\x00"),
        with_half_an_intermediate(issue()),
        with_password(issue()),
    ],
    ids=["other-key", "cut", "cut-key", "no-key", "no-certificate", "no-text", "cut-chain", "locked-key"],
)
async def test_what_does_not_fit_together_changes_nothing_but_a_line_and_a_metric(
    mount: Mount,
    first: KeyPair,
    registry: CollectorRegistry,
    broken: KeyPair,
    capsys: pytest.CaptureFixture[str],
) -> None:
    certificates = certificates_of(mount, registry)
    await certificates.look()
    assert degraded(registry) == 0
    mount.swap(broken)
    capsys.readouterr()
    for _ in range(3):
        await certificates.look()
    printed = "".join(capsys.readouterr())
    assert printed.count("certificate_not_taken") == 1
    assert "PRIVATE KEY" not in printed
    assert degraded(registry) == 1
    async with listening(certificates) as port, Caller(port) as caller:
        assert caller.serial == serial(first)
        assert await caller.ask() == b"re: hello\n"
    second = issue()
    mount.swap(second)
    await certificates.look()
    assert degraded(registry) == 0
    async with listening(certificates) as port, Caller(port) as caller:
        assert caller.serial == serial(second)


async def test_files_that_are_gone_for_a_moment_change_nothing(
    mount: Mount, first: KeyPair, registry: CollectorRegistry
) -> None:
    certificates = certificates_of(mount, registry)
    await certificates.look()
    (mount.folder / "..data").unlink()
    await certificates.look()
    assert degraded(registry) == 1
    async with listening(certificates) as port, Caller(port) as caller:
        assert caller.serial == serial(first)


def degraded(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("moorgate_degraded", {"part": "certificate"})


async def is_let_in(port: int, own: trustme.LeafCert | None) -> bool:
    """With TLS 1.3 a refusal comes after the handshake, as the end of the connection."""
    try:
        async with Caller(port, own=own) as caller:
            return await caller.ask() == b"re: hello\n"
    except OSError:
        return False


async def test_a_client_ca_refuses_other_callers_and_is_reloaded(
    mount: Mount, registry: CollectorRegistry, tmp_path: Path
) -> None:
    old, new = trustme.CA(), trustme.CA()
    of_old, of_new = old.issue_cert("api-server"), new.issue_cert("api-server")
    file = tmp_path / "client-ca.pem"
    old.cert_pem.write_to_path(file)
    certificates = certificates_of(mount, registry, file)
    await certificates.look()
    async with listening(certificates) as port:
        assert [await is_let_in(port, each) for each in (of_old, of_new, None)] == [True, False, False]
        new.cert_pem.write_to_path(file)
        await certificates.look()
        assert [await is_let_in(port, each) for each in (of_old, of_new, None)] == [False, True, False]
        file.write_text("no CA")
        await certificates.look()
        assert [await is_let_in(port, each) for each in (of_old, of_new, None)] == [False, True, False]
        assert degraded(registry) == 1


async def test_a_session_is_not_resumed_past_a_change_of_the_client_ca(
    mount: Mount, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """A resumed session shows no certificate again: a caller of a CA that is out would come in by it."""
    old, new, file = trustme.CA(), trustme.CA(), tmp_path / "client-ca.pem"
    old.cert_pem.write_to_path(file)
    certificates = certificates_of(mount, registry, file)
    await certificates.look()
    context = ssl.create_default_context()
    CA.configure_trust(context)
    old.issue_cert("api-server").configure_cert(context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with listening(certificates) as port:
        session = await asyncio.to_thread(_say_hello, port, context, None)
        assert await asyncio.to_thread(_say_hello, port, context, session)
        new.cert_pem.write_to_path(file)
        await certificates.look()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(_say_hello, port, context, session)


def _say_hello(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as tls,
    ):
        tls.sendall(b"hello\n")
        assert tls.recv(100) == b"re: hello\n"
        return tls.session


async def test_without_a_certificate_yet_the_handshake_fails(
    mount: Mount, registry: CollectorRegistry
) -> None:
    async with listening(certificates_of(mount, registry)) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with Caller(port):
                pass


async def test_many_rotations_leave_no_files_open(mount: Mount, registry: CollectorRegistry) -> None:
    certificates = certificates_of(mount, registry)
    await certificates.look()
    before = open_files()
    for _ in range(20):
        mount.swap(issue())
        await certificates.look()
    assert open_files() <= before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_wrong_file_at_the_start_stops_the_process_with_its_setting(
    mount: Mount, tmp_path: Path
) -> None:
    await require_usable(mount.files, None)
    with pytest.raises(BadSetting, match="MOORGATE_CLIENT_CA_FILE: cannot read"):
        await require_usable(mount.files, tmp_path / "none.pem")
    mount.swap(KeyPair(issue().certificate, issue().key))
    with pytest.raises(BadSetting, match=r"MOORGATE_TLS_CERT_FILE and MOORGATE_TLS_KEY_FILE: .*do not fit"):
        await require_usable(mount.files, None)


def test_tls_older_than_1_2_is_not_spoken_and_keys_do_not_print() -> None:
    pair = issue()
    assert server_context(pair, None).minimum_version is ssl.TLSVersion.TLSv1_2
    assert repr(pair) == "KeyPair(…)"
    with pytest.raises(BadCertificate) as error:
        server_context(KeyPair(pair.certificate, pair.key[40:]), None)
    assert pair.key.splitlines()[2].decode() not in str(error.value)
