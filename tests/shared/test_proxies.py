import pytest

from shared.proxies import has_proxy

ANCHORE = "https://anchore.example/v1"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_without_a_word_nobody_stands_between() -> None:
    assert not has_proxy(ANCHORE)


def test_the_proxy_is_one_of_the_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy.example:3128")
    assert has_proxy(ANCHORE)
    assert not has_proxy("http://anchore.example/v1")


@pytest.mark.parametrize("words", [".example", "localhost,anchore.example", "*"])
def test_no_proxy_is_heeded(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", words)
    assert not has_proxy(ANCHORE)
    assert has_proxy("https://anchore.test/v1") is (words != "*")
