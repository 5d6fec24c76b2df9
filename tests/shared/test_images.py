"""Image references against the grammar, a golden table and the Go library that containerd itself uses."""

import fcntl
import hashlib
import json
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.errors import BadImage
from shared.images import MAX_LENGTH, ImageReference, parse

SHA = "ab" * 32
DIGEST = f"sha256:{SHA}"
SHA512 = "sha512:" + "cd" * 64
GO_PROGRAM = Path(__file__).parent / "distribution"

NORMALISED = {
    "nginx": "docker.io/library/nginx:latest",
    "nginx:1.27": "docker.io/library/nginx:1.27",
    "team/app": "docker.io/team/app:latest",
    "docker.io/nginx": "docker.io/library/nginx:latest",
    "docker.io/library/nginx": "docker.io/library/nginx:latest",
    "index.docker.io/nginx": "docker.io/library/nginx:latest",
    "index.docker.io/team/app:1": "docker.io/team/app:1",
    "docker.io/index.docker.io/app": "docker.io/index.docker.io/app:latest",
    "localhost": "docker.io/library/localhost:latest",
    "localhost/app": "localhost/app:latest",
    "localhost:5000/app": "localhost:5000/app:latest",
    "localhost:5000": "docker.io/library/localhost:5000",
    "r.example:5000/a/b:1": "r.example:5000/a/b:1",
    "r.example/a": "r.example/a:latest",
    "r.example:/a": None,
    "Registry/app": "Registry/app:latest",
    "REGISTRY.example/app": "REGISTRY.example/app:latest",
    "a_b.c/app": "a_b.c/app:latest",
    "1.2.3.4/app": "1.2.3.4/app:latest",
    "[::1]/app": "[::1]/app:latest",
    "[2001:db8::1]:5000/a/b:1": "[2001:db8::1]:5000/a/b:1",
    "[abCD:059::eF]:5000/app": "[abCD:059::eF]:5000/app:latest",
    "5.m.M.a.z.A.Z.0.9:5000/app": "5.m.M.a.z.A.Z.0.9:5000/app:latest",
    "m5.5m.Mm.mM.x5y.xMy.xx-yy.5--5:5000/app": "m5.5m.Mm.mM.x5y.xMy.xx-yy.5--5:5000/app:latest",
    "r.example:059/app": "r.example:059/app:latest",
    "[fe80::1%eth0]/app": None,
    "[::g]/app": None,
    "[::G]/app": None,
    "[::-]/app": None,
    "[]/app": None,
    "-x.y:80/app": None,
    "x-.y:80/app": None,
    "x.-:80/app": None,
    "[x.y:80/app": None,
    "x..y:80/app": None,
    "r_x.y:80/app": None,
    "r.example:5x/app": None,
    f"nginx@{DIGEST}": f"docker.io/library/nginx@{DIGEST}",
    f"nginx:1@{DIGEST}": f"docker.io/library/nginx:1@{DIGEST}",
    f"r.example/a@{SHA512}": f"r.example/a@{SHA512}",
    "a--b/c__d/e_f.g": "docker.io/a--b/c__d/e_f.g:latest",
    "0a5b9/5c6.7d__m8--9z_4": "docker.io/0a5b9/5c6.7d__m8--9z_4:latest",
    "app:5": "docker.io/library/app:5",
    "app:m": "docker.io/library/app:m",
    "app:M": "docker.io/library/app:M",
    "app:x059_amz.AMZ-": "docker.io/library/app:x059_amz.AMZ-",
    "app:V1.2_3-x": "docker.io/library/app:V1.2_3-x",
    "app:_hidden": "docker.io/library/app:_hidden",
    "app:" + "x" * 128: "docker.io/library/app:" + "x" * 128,
    "r.example/" + "x" * 255: "r.example/" + "x" * 255 + ":latest",
    "x" * 247: "docker.io/library/" + "x" * 247 + ":latest",
    SHA[:63]: f"docker.io/library/{SHA[:63]}:latest",
    f"{SHA}:1": f"docker.io/library/{SHA}:1",
    f"library/{SHA}": f"docker.io/library/{SHA}:latest",
    "": None,
    " ": None,
    " nginx": None,
    "nginx ": None,
    "nginx\n": None,
    "nginx:1\n": None,
    f"nginx@{DIGEST}\n": None,
    "ng\u0131nx": None,
    "nginx:\u0661": None,
    "Nginx": None,
    "docker.io/Nginx": None,
    "r.example/a/B": None,
    "nginx:": None,
    "nginx:-1": None,
    "nginx:.1": None,
    "nginx:=1": None,
    "nginx:1=": None,
    "nginx:1:": None,
    "app:" + "x" * 129: None,
    "nginx@": None,
    f"nginx@{SHA}": None,
    f"nginx@sha256:{SHA[1:]}": None,
    f"nginx@sha256:{SHA}0": None,
    f"nginx@sha256:{SHA.upper()}": None,
    f"nginx@sha512:{SHA}": None,
    f"nginx@md5:{'a' * 32}": None,
    f"nginx@sha1:{'a' * 40}": None,
    f"nginx@{DIGEST}:1": None,
    SHA: None,
    "r.example/" + "x" * 256: None,
    "x" * 248: None,
    "a..b/c/d": None,
    "a//b": None,
    "/nginx": None,
    "nginx/": None,
    "a___b": None,
    "-a": None,
    "a-": None,
    "https://r.example/a": None,
    "docker://nginx": None,
}
"""What a Pod may name, and what it means; None: no reference. The Go library below confirms each line."""


@pytest.mark.parametrize(("text", "normal"), NORMALISED.items(), ids=lambda text: ascii(text)[:40])
def test_the_golden_table(text: str, normal: str | None) -> None:
    assert read(text) == normal


def test_the_parts_of_a_reference() -> None:
    expected = ImageReference(registry="r.example:5000", repository="a/b", tag="1", digest=DIGEST)
    assert parse(f"r.example:5000/a/b:1@{DIGEST}") == expected
    assert expected.name == "r.example:5000/a/b"
    assert parse("nginx") == ImageReference(registry="docker.io", repository="library/nginx", tag="latest")
    assert parse("a_b.c/app") == ImageReference(registry="a_b.c", repository="app", tag="latest")


@pytest.mark.parametrize(
    ("text", "is_mutable"), [("nginx", True), ("nginx:1", True), (f"nginx@{DIGEST}", False)]
)
def test_only_a_digest_pins_an_image(text: str, *, is_mutable: bool) -> None:
    assert parse(text).is_mutable is is_mutable
    assert parse(f"nginx:1@{DIGEST}").is_mutable is False


NO_REFERENCE = "is no image reference: "
FORM = NO_REFERENCE + "write [registry/]repository[:tag][@digest]"
BLANKS = NO_REFERENCE + "it has blanks or unprintable characters"
LOWER = NO_REFERENCE + "a repository is in lower case"
SCHEME = NO_REFERENCE + "leave the scheme out"
ERRORS = {
    "": NO_REFERENCE + "it is empty",
    "nginx ": BLANKS,
    "ng\0inx": BLANKS,
    "ng\u200binx": BLANKS,
    "ng\u00a0inx": BLANKS,
    "https://r.example/a": SCHEME,
    "https://r.example/a b": BLANKS,
    "Nginx": LOWER,
    "r.example/a/B": LOWER,
    "HTTPS://r.example/a": SCHEME,
    "Nginx:1": FORM,
    "nginx:-1": FORM,
    "a___b": FORM,
    SHA: "is a bare image id; name a repository, with a tag or digest",
    "0123456789abcdef" * 4: "is a bare image id; name a repository, with a tag or digest",
    f"nginx@sha256:{'a' * 31}": FORM,
    f"nginx@sha256:{'a' * 32}": ": a sha256 digest has 64 lower-case hex digits",
    f"nginx@sha256:{SHA.upper()}": ": a sha256 digest has 64 lower-case hex digits",
    f"nginx@sha384:{SHA}": ": a sha384 digest has 96 lower-case hex digits",
    f"nginx@sha512:{SHA}": ": a sha512 digest has 128 lower-case hex digits",
    f"nginx@sha256:{'059amf' * 8}AMF": FORM,
    f"nginx@sha256:{'059acf' * 8}ACF": ": a sha256 digest has 64 lower-case hex digits",
    f"nginx@5a:{SHA}": FORM,
    f"nginx@sha256+:{SHA}": FORM,
    f"nginx@sha256.5:{SHA}": FORM,
    f"nginx@sha256--x:{SHA}": FORM,
    **{
        f"nginx@{algorithm}:{SHA}": f": digest algorithm {algorithm} is not known; use sha256"
        for algorithm in (
            *"amzAMZ",
            "md5",
            "Sha256",
            "x059azmAZM",
            "a-m_M+Z.z-A-a",
            "x.m059azmAZM+MmM",
            "sha256+b64",
        )
    },
    "r.example/" + "x" * 256: ": a repository has at most 255 characters",
    "x" * 1025: "is longer than 1024 characters",
}
"""What is wrong with each, in the words the user reads."""


@pytest.mark.parametrize(("text", "message"), ERRORS.items(), ids=lambda text: ascii(text)[:40])
def test_the_error_says_what_to_mend(text: str, message: str) -> None:
    with pytest.raises(BadImage) as caught:
        parse(text)
    quoted = ascii(text) if len(text) <= 100 else ascii(text[:100] + "…")
    assert str(caught.value) == (f"{quoted}{message}" if message.startswith(":") else f"{quoted} {message}")


def test_a_text_of_a_hundred_characters_is_quoted_whole_and_a_longer_one_is_cut() -> None:
    for length, shown in ((100, "-" + "x" * 99), (101, "-" + "x" * 99 + "\\u2026")):
        with pytest.raises(BadImage) as caught:
            parse("-" + "x" * (length - 1))
        assert str(caught.value).startswith(f"'{shown}' is no image reference")


def test_as_long_as_may_be_is_judged_by_its_parts() -> None:
    longest = "x." * 382 + "x:80/" + "x" * 255
    assert len(longest) == MAX_LENGTH == 1024
    assert read(longest) == f"{longest}:latest"


def test_a_hostile_text_is_refused_at_once_and_quoted_briefly() -> None:
    began = time.process_time()
    for unit in ("a", "a-", "a.", "a/", "A.", "[", ":", "@", "a_", "é"):
        for text in (unit * 500_000, unit * (MAX_LENGTH // len(unit)) + "!", f"r.example/{unit * 400}!"):
            with pytest.raises(BadImage) as caught:
                parse(text[:MAX_LENGTH] if len(text) < 500_000 else text)
            assert len(str(caught.value)) < 1200
            assert str(caught.value).isprintable()
    assert time.process_time() - began < 2.0, "the grammar backtracks"


PIECES = (
    *(
        "nginx",
        "library",
        "docker.io",
        "index.docker.io",
        "localhost",
        "r.example",
        "r.example:5000",
        "[::1]",
    ),
    *("[fe80::1]:5000", "a", "a-b", "a--b", "a__b", "a_b", "a___b", "a.b", "a..b", "a_b.c", "A", "1", "_a"),
    *("-a", "a-", ".a", "é", "İ", " ", "\t", "\n", "", "/", "//", ":", "@", "latest", "1.0", "V1", "%", "\0"),
    *("x" * 127, "x" * 128, "x" * 129, "x" * 240, "x" * 255, "sha256", "sha512", "md5", DIGEST, DIGEST[:-1]),
    *(DIGEST + "0", DIGEST.upper(), SHA512, "sha512:" + SHA, "sha384:" + "b" * 96, "sha256+x:" + SHA, SHA),
    *("SHA256:" + SHA, "md5:" + "a" * 32, "http://", "1.2.3.4", ":80", "a:80", "foo.bar.", "-x.y", "x-.y"),
)
CANDIDATES = st.lists(
    st.sampled_from(PIECES) | st.sampled_from(["/", ":", "@", "."]) | st.text(max_size=3), max_size=9
).map("".join)


@settings(deadline=None)
@given(CANDIDATES | st.text() | st.text(st.characters(codec=None), max_size=20))
@example("\ud800")
@example("a\u2028b")
def test_whatever_is_written_parses_or_is_a_bad_image(text: str) -> None:
    normal = read(text)
    if normal is not None:
        assert normal.isascii()
        assert normal.isprintable()
        assert " " not in normal


@settings(deadline=None)
@given(CANDIDATES)
def test_the_normal_form_is_its_own_normal_form(text: str) -> None:
    try:
        found = parse(text)
    except BadImage:
        return
    assert parse(str(found)) == found


def read(text: str) -> str | None:
    """Our normal form; None where the text is no reference. Any other error is the test's to show."""
    try:
        return str(parse(text))
    except BadImage:
        return None


@pytest.fixture(scope="session")
def distribution() -> Path:
    """The program around the Go library, built once into the user's cache; without Go skipped, but not in CI."""
    sources = sorted(path for path in GO_PROGRAM.iterdir() if path.suffix in {".go", ".mod", ".sum"})
    content = hashlib.sha256(b"\n".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moorgate" / "distribution"
    root.mkdir(parents=True, exist_ok=True)
    program = root / f"distribution-{content}"
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(program)
    return program


def _build(program: Path) -> None:
    go = shutil.which("go")
    if go is None:
        _give_up(
            "there is no Go here to build the reference parser of containerd with: only the table is checked"
        )
    part = program.with_suffix(".part")
    done = subprocess.run(
        [str(go), "build", "-trimpath", "-o", part, "."],
        cwd=GO_PROGRAM,
        env={**os.environ, "GOWORK": "off", "GOFLAGS": "-mod=readonly"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        _give_up(f"the reference parser of containerd cannot be built: {done.stderr.strip()[-500:]}")
    part.rename(program)


def _give_up(message: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


class Theirs:
    """What the Go library makes of many references."""

    def __init__(self, program: Path, texts: list[str]) -> None:
        lines = "".join(json.dumps(text) + "\n" for text in texts)
        done = subprocess.run([program], input=lines, capture_output=True, text=True, check=True, timeout=30)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        self.answers: list[tuple[str, str, str]] = [
            (text, full, resolved) for text, (full, resolved, _) in zip(texts, answers, strict=True)
        ]


def test_the_go_library_reads_the_table_as_we_do(distribution: Path) -> None:
    for text, full, _ in Theirs(distribution, list(NORMALISED)).answers:
        assert (full or None) == NORMALISED[text], ascii(text)


def test_the_go_library_reads_made_up_references_as_we_do(distribution: Path) -> None:
    chance = random.Random(20261123)  # the same candidates each time: a difference can be looked at
    texts = [text for text in (_made_up(chance) for _ in range(8000)) if len(text) <= MAX_LENGTH]
    answers = Theirs(distribution, texts).answers
    differing = [(text, read(text), full) for text, full, _ in answers if read(text) != (full or None)]
    assert differing == []
    assert sum(bool(full) for _, full, _ in answers) > 1000, "too few of the candidates are references"


def test_containerd_drops_a_tag_beside_a_digest_and_we_keep_it(distribution: Path) -> None:
    """Both name the same image; the tag stays for people, globs and Anchore, the digest is what counts."""
    for text, _, resolved in Theirs(distribution, [text for text in NORMALISED if read(text)]).answers:
        ours = parse(text)
        without_tag = f"{ours.name}@{ours.digest}"
        assert resolved == (without_tag if ours.digest else str(ours))


def _made_up(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return "".join(
            chance.choice(PIECES) + chance.choice(["/", "/", ":", "@", ".", ""])
            for _ in range(chance.randint(1, 5))
        )
    host = chance.choice(
        ["", "docker.io/", "index.docker.io/", "localhost/", "r.example:5000/", "Reg/", "[::1]:80/"]
    )
    names = ("a", "a-b", "a--b", "a__b", "a_b", "x" * chance.randint(1, 200), "A", "b.c", "docker.io")
    path = "/".join(chance.choice(names) for _ in range(chance.randint(1, 3)))
    tag = chance.choice(["", ":1", ":V.1-_", ":", ":" + "x" * 128, ":" + "x" * 129, ":-a"])
    digest = chance.choice(["", f"@{DIGEST}", f"@{DIGEST[:-1]}", f"@{SHA512}", "@"])
    text = host + path + tag + digest
    if chance.random() < 0.2:
        place = chance.randrange(len(text) + 1)
        text = text[:place] + chance.choice(":/@.-_A a\n") + text[place:]
    return text
