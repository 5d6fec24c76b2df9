"""Writes the reference pages."""

from pathlib import Path

from deploy.dev.reference import crds, messages, metrics, settings
from deploy.dev.reference.markdown import MADE
from deploy.dev.services import ROOT

REFERENCE = ROOT / "docs" / "reference"


def files() -> dict[Path, str]:
    """Every page with its content."""
    pages = {"settings": settings, "crds": crds, "metrics": metrics, "messages": messages}
    return {REFERENCE / f"{name}.md": f"{MADE}\n\n{module.page()}\n" for name, module in pages.items()}


def main() -> None:
    """Write them all."""
    REFERENCE.mkdir(exist_ok=True)
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
