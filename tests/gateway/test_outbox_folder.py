"""The outbox' folder: one process, a bound, files that go when NATS has what they hold; also on a disk that is full."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.gateway.metrics import GatewayMetrics
from services.gateway.outbox import records
from services.gateway.outbox.folder import LOCK, Folder, FolderFullError, Place
from services.gateway.outbox.segment import SUFFIX, Segment
from shared.errors import BadSetting

MIB = 1024 * 1024


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> GatewayMetrics:
    return GatewayMetrics(registry)


def damaged(registry: CollectorRegistry, kind: str) -> float | None:
    return registry.get_sample_value("moorgate_outbox_damaged_total", {"kind": kind})


def record(number: int, size: int = 100) -> bytes:
    return records.decision("", b'{"id":"%d","pad":"%b"}' % (number, b"x" * size))


def ids(folder: Folder, places: list[Place]) -> list[str]:
    found = [folder.read(place) for place in places]
    return [each.payload.split(b'"')[3].decode() for each in found if each]


def fill(folder: Folder, places: list[Place], size: int) -> None:
    """Append until it is refused."""
    while True:
        places.append(folder.append(record(len(places), size)))


def files(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir() if each.name != LOCK)


def test_what_is_not_acknowledged_is_the_next_process_s_in_its_order(
    tmp_path: Path, metrics: GatewayMetrics
) -> None:
    folder = Folder(tmp_path, MIB, metrics)
    places = [folder.append(record(number, 20_000)) for number in range(40)]
    assert len(files(tmp_path)) > 4
    for number in (39, 3, 4, 17, 0):
        folder.acknowledge(places[number])
    folder.mark()
    folder.close()
    again = Folder(tmp_path, MIB, metrics)
    left = [str(number) for number in range(40) if number not in (39, 3, 4, 17, 0)]
    assert ids(again, again.recover()) == left
    again.close()


def test_a_file_is_deleted_when_all_of_it_is_acknowledged_in_any_order(
    tmp_path: Path, metrics: GatewayMetrics
) -> None:
    folder = Folder(tmp_path, MIB, metrics)
    places = [folder.append(record(number, 20_000)) for number in range(20)]
    first = [place for place in places if place.segment is places[0].segment]
    for place in reversed(first[1:]):
        folder.acknowledge(place)
        folder.mark()
    assert first[0].segment.path.exists()
    before = folder.size
    folder.acknowledge(first[0])
    assert not first[0].segment.path.exists()
    assert folder.size < before
    for place in places[len(first) :]:
        folder.acknowledge(place)
    folder.close()
    assert files(tmp_path) == []


def test_the_bound_is_on_the_bytes_and_ends_when_there_is_room_again(
    tmp_path: Path, metrics: GatewayMetrics
) -> None:
    folder = Folder(tmp_path, MIB, metrics)
    places: list[Place] = []
    with pytest.raises(FolderFullError):
        fill(folder, places, 5000)
    folder.mark()
    assert sum((tmp_path / name).stat().st_size for name in files(tmp_path)) == folder.size <= MIB
    for place in places[:50]:
        folder.acknowledge(place)
    folder.append(record(1000, 5000))
    folder.close()


def test_a_second_process_is_told_in_one_line(tmp_path: Path, metrics: GatewayMetrics) -> None:
    folder = Folder(tmp_path, MIB, metrics)
    with pytest.raises(BadSetting, match=r"MOORGATE_OUTBOX_DIR: another process uses .*: give each gateway"):
        Folder(tmp_path, MIB, metrics)
    folder.close()
    Folder(tmp_path, MIB, metrics).close()


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path, metrics: GatewayMetrics) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadSetting, match=r"MOORGATE_OUTBOX_DIR: .*file/x cannot be used: Not a directory"):
        Folder(tmp_path / "file" / "x", MIB, metrics)


def test_a_torn_tail_is_cut_off_and_counted(
    tmp_path: Path, metrics: GatewayMetrics, registry: CollectorRegistry
) -> None:
    folder = Folder(tmp_path, MIB, metrics)
    places = [folder.append(record(number)) for number in range(3)]
    folder.close()
    path = places[0].segment.path
    os.truncate(path, path.stat().st_size - 7)
    again = Folder(tmp_path, MIB, metrics)
    left = again.recover()
    assert ids(again, left) == ["0", "1"]
    assert path.stat().st_size == places[2].offset
    assert (damaged(registry, "torn"), damaged(registry, "corrupt")) == (1, 0)
    again.acknowledge(left[0])
    again.mark()
    again.close()
    third = Folder(tmp_path, MIB, metrics)
    assert ids(third, third.recover()) == ["1"], "what was acknowledged stands behind what was torn off"
    third.close()


def test_what_is_corrupt_in_the_middle_is_counted_and_the_rest_kept(
    tmp_path: Path, metrics: GatewayMetrics, registry: CollectorRegistry
) -> None:
    folder = Folder(tmp_path, MIB, metrics)
    places = [folder.append(record(number)) for number in range(3)]
    folder.close()
    path = places[0].segment.path
    content = bytearray(path.read_bytes())
    content[places[1].offset + 5] ^= 0xFF  # the length
    path.write_bytes(content)
    again = Folder(tmp_path, MIB, metrics)
    assert ids(again, again.recover()) == ["0", "2"]
    assert (damaged(registry, "torn"), damaged(registry, "corrupt")) == (0, 1)
    again.close()


def test_a_file_of_a_newer_version_stays_and_is_told(tmp_path: Path, metrics: GatewayMetrics) -> None:
    path = tmp_path / f"{1:016d}{SUFFIX}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "VERSION", 2)
        Segment.create(path).close()
    folder = Folder(tmp_path, MIB, metrics)
    with pytest.raises(BadSetting, match=r"newer version of Moorgate \(format 2, known is 1\)"):
        folder.recover()
    folder.close()
    assert path.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of a quarter of a MiB."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: a full disk needs a mount, and only root may mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip(f"NOT TESTED: a full disk cannot be mounted here: {mounted.stderr.decode()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_refuses_and_leaves_nothing_half(
    small_disk: Path, metrics: GatewayMetrics, registry: CollectorRegistry
) -> None:
    folder = Folder(small_disk, MIB, metrics)
    places: list[Place] = []
    with pytest.raises(OSError, match="No space left on device"):
        fill(folder, places, 3000)
    count = len(places)
    assert count > 50
    for _ in range(3):
        with pytest.raises(OSError, match="No space left on device"):
            folder.append(record(count, 3000))
    folder.close()
    again = Folder(small_disk, MIB, metrics)
    places = again.recover()
    assert ids(again, places) == [str(number) for number in range(count)]
    assert (damaged(registry, "torn"), damaged(registry, "corrupt")) == (0, 0)
    for place in places:
        again.acknowledge(place)
    again.append(record(count, 3000))
    again.close()
