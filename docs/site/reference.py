"""Pages of the reference: one for each module, which mkdocstrings fills from docstrings without importing anything."""

from __future__ import annotations

import shutil
from pathlib import Path

from transfer_parity.shared.contract.wings import WINGS

FOLDER = "reference"
PACKAGE = "transfer_parity"
#: Where the code is read from: a copy of the packages and nothing else.
CODE = "code"


def packages(root: Path) -> list[str]:
    """Those of the reference, as folders: shared's, then the wings."""
    shared = sorted(path.parent.name for path in (root / "shared").glob("*/__init__.py"))
    return [*(f"shared/{name}" for name in shared), *(wing.package.rpartition(".")[2] for wing in WINGS)]


def copy(root: Path, out: Path) -> None:
    """The packages' code, for griffe to read."""
    target = out / CODE / PACKAGE
    target.mkdir(parents=True)
    (target / "__init__.py").write_text(f'"""{PACKAGE}."""\n', encoding="utf-8")
    for folder in ("shared", *(wing.package.rpartition(".")[2] for wing in WINGS)):
        shutil.copytree(root / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__", "*.j2"))


def pages(root: Path) -> dict[str, str]:
    """By file name: a page for each package, with its modules one below the other."""
    made = {}
    listed = []
    for folder in packages(root):
        name = folder.rpartition("/")[2]
        modules = [path for path in sorted((root / folder).glob("*.py")) if not path.stem.startswith("__")]
        parts = [f"# {folder}\n"]
        for path in modules:
            dotted = f"{PACKAGE}.{folder.replace('/', '.')}.{path.stem}"
            parts.append(f"## `{path.name}` {{: #{path.stem} }}\n\n::: {dotted}\n")
        made[f"{name}.md"] = "\n".join(parts)
        listed.append(f"| [{folder}/]({name}.md) | {', '.join(f'[{m.stem}]({name}.md#{m.stem})' for m in modules)} |")
    head = (
        "# Reference\n\nWhat the docstrings say, read from the source. Arrows run down: a package uses those that "
        "[the house](../index.md#the-house) lists below it.\n\n| package | modules |\n|---|---|\n"
    )
    made["index.md"] = head + "\n".join(listed) + "\n"
    return made
