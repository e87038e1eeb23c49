"""Plants a mistake in a copy of the project and lets comparison, ladder and tests look at it."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.conftest import ROOT, write_images
from tests.mutations.mutation import SCENARIOS, TOOLS, Mutation, Scenario, Tool

#: The package is found under this name: the folder of a copy has it, and lies in a folder on PYTHONPATH.
PACKAGE = "transfer_parity"
#: Seconds after which a command counts as hanging.
PATIENCE = 900
#: What the digest of the code covers, beside the mistakes and the tests that a mistake names.
_CODE = ("shared/", "tf_impl/", "torch_impl/", "compare.py", "tests/mutations/mutation.py", "tests/conftest.py")
#: The first thing that differs, as the sentence of a comparison that failed for another reason.
_ERROR = re.compile(r"error: (.*)")


class Unfit(Exception):
    """The project without a mistake does not pass a scenario, or the copy's code is not what runs."""


@dataclass(frozen=True)
class Seen:
    """What one tool says.

    Attributes:
        noticed: whether it found anything.
        says: what it names; empty if it found nothing.
        seconds: that it took.
    """

    noticed: bool
    says: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """JSON values by name."""
        return {"noticed": self.noticed, "says": self.says, "seconds": round(self.seconds, 1)}


@cache
def sources() -> tuple[str, ...]:
    """Files of the project, relative to its root: those that git knows, and new ones that it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(sorted(name for name in set(listed.stdout.splitlines()) if (ROOT / name).is_file()))


@cache
def code_digest() -> str:
    """SHA-256 over the sources on which results depend, its first 16 digits."""
    state = hashlib.sha256()
    for name in sources():
        if name.startswith(_CODE):
            state.update(name.encode() + (ROOT / name).read_bytes())
    return state.hexdigest()[:16]


def key(mutation: Mutation) -> str:
    """Of the result of a mistake: another one is needed once it, its scenario, its tests or the code is another."""
    scenario = SCENARIOS[mutation.scenario] if mutation.scenario else None
    files = sorted({test.partition("::")[0] for test in mutation.tests})
    tests = [hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in files]
    told = repr((mutation.edit, scenario, mutation.tests, tests, code_digest()))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


class Copy:
    """A copy of the project in a folder of its own, with a cache of its own."""

    def __init__(self, folder: Path, scenario: Scenario | None = None, mutation: Mutation | None = None) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.folder, self.root, self.scenario = folder, folder / PACKAGE, scenario
        for name in sources():
            target = self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
        for edit in scenario.edits if scenario else ():
            edit.apply(self.root)
        if mutation is not None:
            mutation.edit.apply(self.root)
        self.files = [mutation.edit.file] if mutation is not None else ["compare.py"]

    @property
    def environment(self) -> dict[str, str]:
        """In which this copy's code runs: in front of the editable installation, and with its own cache."""
        mine = {"PYTHONPATH": str(self.folder), "XDG_CACHE_HOME": str(self.folder / "cache")}
        return {**os.environ, **mine, "PYTHONDONTWRITEBYTECODE": "", "COLUMNS": "200"}

    def prove(self) -> None:
        """Make sure that a process started here, as the workers are, takes the changed file from here.

        Raises:
            Unfit: it takes it from elsewhere.
        """
        modules = [f"{PACKAGE}.{Path(name).with_suffix('').as_posix().replace('/', '.')}" for name in self.files]
        asked = f"import importlib.util as u; print(*(u.find_spec(n).origin for n in {modules!r}), sep='\\n')"
        found = self.run("-P", "-c", asked).stdout.splitlines()
        if found != [str(self.root / name) for name in self.files]:
            raise Unfit(f"{', '.join(found)} would run, not {self.root}")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Python with these arguments, in the copy."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def compare(self) -> Seen | None:
        """The comparison of the scenario's recipe; None if it has none."""
        if self.scenario is None or self.scenario.recipe is None:
            return None
        began, out = time.monotonic(), self.folder / "comparison"
        finished = self.run("compare.py", str(self._recipe()), "--output-dir", str(out), *self._cache())
        if finished.returncode == 0:
            return Seen(False, "", time.monotonic() - began)
        return Seen(True, _of_comparison(out / "comparison.json", finished), time.monotonic() - began)

    def climb(self) -> Seen | None:
        """The plain ladder with the scenario's backbone; None if that has nothing of it."""
        if self.scenario is None or self.scenario.ladder is None:
            return None
        return self._climb("ladder", *self.scenario.ladder)

    def climb_recipe(self) -> Seen | None:
        """The ladder of the scenario's recipe; None if it has none, or there is no such ladder."""
        if self.scenario is None or self.scenario.recipe is None or not climbs_recipes():
            return None
        return self._climb("recipe-ladder", str(self._recipe()))

    def test(self, tests: tuple[str, ...]) -> Seen | None:
        """The named tests; None if none are named."""
        if not tests:
            return None
        began = time.monotonic()
        options = ("-q", "-n0", "-p", "no:cacheprovider", "--tb=no")
        finished = self.run("-m", "pytest", *options, *tests)
        # Without its parameters: which of them failed is a detail.
        failed = re.findall(r"^(?:FAILED|ERROR) (tests/[^\s\[]+)", finished.stdout, re.MULTILINE)
        if finished.returncode not in (0, 1):
            failed = failed or [f"pytest ended with {finished.returncode}"]
        return Seen(finished.returncode != 0, ", ".join(dict.fromkeys(failed)), time.monotonic() - began)

    def _climb(self, name: str, *arguments: str) -> Seen:
        began, out = time.monotonic(), self.folder / name
        finished = self.run("compare.py", "parity", *arguments, "--output-dir", str(out), *self._cache())
        if finished.returncode == 0:
            return Seen(False, "", time.monotonic() - began)
        return Seen(True, _of_ladder(out / "parity.json", finished), time.monotonic() - began)

    def _cache(self) -> tuple[str, str]:
        return "--cache-dir", str(self.folder / "cache")

    def _recipe(self) -> Path:
        """The recipe's file, with a data set of drawn pictures beside it."""
        assert self.scenario is not None and self.scenario.recipe is not None
        path, pictures = self.folder / "recipe.toml", self.folder / "pictures"
        if not path.exists():
            write_images(pictures, {"circle": 12, "square": 12}, side=80)
            path.write_text(f"data = {json.dumps(str(pictures))}\n{self.scenario.recipe}", encoding="utf-8")
        return path


@cache
def climbs_recipes() -> bool:
    """Whether ``compare.py parity`` takes a recipe, as its usage says."""
    asked = [sys.executable, str(ROOT / "compare.py"), "parity", "--help"]
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return "RECIPE" in told.partition("\n\n")[0]


def _of_comparison(path: Path, finished: subprocess.CompletedProcess[str]) -> str:
    """What a comparison that did not end well names."""
    if finished.returncode == 1 and path.exists():
        document = json.loads(path.read_text(encoding="utf-8"))
        agreed, verdict = document["agreement"], document["verdict"]
        if agreed.get("copies"):
            return "copies"
        found = agreed.get("first_difference")
        if found is None:
            return f"verdict {verdict}"
        parts = [found["what"], f"of {found['name']}" if found["name"] else ""]
        parts += ["" if found["seed"] is None else f"in seed {found['seed']}"]
        parts += ["" if found["step"] is None else f"at step {found['step'] + 1}"]
        return " ".join(part for part in parts if part)
    return _failure(finished)


def _of_ladder(path: Path, finished: subprocess.CompletedProcess[str]) -> str:
    """The lowest rung that did not pass, and what it names."""
    if finished.returncode == 1 and path.exists():
        for climb in json.loads(path.read_text(encoding="utf-8"))["pairs"]:
            for rung in climb["rungs"]:
                found = rung["first_divergence"]
                if found is not None:
                    name = f" of {found['neutral']}" if found["neutral"] else ""
                    return f"{rung['name']}: {found['what']}{name}"
        return "nothing that differs, but a rung that tells nothing"
    return _failure(finished)


def _failure(finished: subprocess.CompletedProcess[str]) -> str:
    told = " ".join(_ERROR.findall(finished.stderr)[:1]) or "no sentence"
    return f"exit status {finished.returncode}: {told}"[:200]


def look(mutation: Mutation, folder: Path, every: bool = False) -> dict[str, Any]:
    """Plant a mistake in a new copy and let the tools look at it.

    The comparison always does, since it is what everybody runs. Then the ladders do that are expected to name the
    mistake, until one has named it exactly. Tests run where nothing was noticed.

    Args:
        mutation: to plant.
        folder: of the copy; removed in the end.
        every: whether all ladders look, also after one has named the mistake.

    Raises:
        Unfit: the copy's code is not what runs.
        ValueError: the mistake cannot be planted.
    """
    copy = Copy(folder, SCENARIOS[mutation.scenario] if mutation.scenario else None, mutation)
    asked = ladders(mutation)
    try:
        copy.prove()
        seen: dict[Tool, Seen | None] = {"comparison": copy.compare()}
        climbs: dict[Tool, Callable[[], Seen | None]] = {"ladder": copy.climb, "recipe ladder": copy.climb_recipe}
        for tool, climb in climbs.items():
            if every or (tool in asked and not any(_is_named(mutation, *each) for each in seen.items())):
                seen[tool] = climb()
        if not any(each is not None and each.noticed for each in seen.values()):
            seen["tests"] = copy.test(mutation.tests)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    told = {tool: found.as_json() for tool in TOOLS if (found := seen.get(tool)) is not None}
    return {"id": mutation.id, "key": key(mutation), "date": time.strftime("%Y-%m-%d"), "seen": told}


def _is_named(mutation: Mutation, tool: Tool, seen: Seen | None) -> bool:
    told = f"{tool}: {seen.says}" if seen is not None and seen.noticed else ""
    return any(fnmatch.fnmatchcase(told, pattern) for pattern in mutation.named)


def ladders(mutation: Mutation) -> set[str]:
    """Which ladders a mistake is for: a climb takes longest of all. Where none is expected, the recipe's, if any."""
    named = {pattern.partition(":")[0] for pattern in mutation.named} & {"ladder", "recipe ladder"}
    return named or {"recipe ladder"}


def noticed(result: dict[str, Any]) -> list[str]:
    """What the tools said that noticed a mistake, each "tool: what it says"."""
    return [f"{tool}: {seen['says']}" for tool, seen in result["seen"].items() if seen["noticed"]]


def exactly(mutation: Mutation, result: dict[str, Any]) -> bool:
    """Whether any tool names the mistake exactly."""
    told = [said for said in noticed(result) if not said.startswith("tests: ")]
    told += [f"tests: {name}" for name in result["seen"].get("tests", {}).get("says", "").split(", ") if name]
    return any(fnmatch.fnmatchcase(said, pattern) for said in told for pattern in mutation.named)


def check_without_mistake(name: str, folder: Path) -> None:
    """Carry out a scenario without a mistake.

    Raises:
        Unfit: something is found all the same.
    """
    copy = Copy(folder, SCENARIOS[name])
    try:
        copy.prove()
        for tool, seen in (("comparison", copy.compare()), ("ladder", copy.climb()), ("recipe", copy.climb_recipe())):
            if seen is not None and seen.noticed:
                raise Unfit(f"scenario {name}: the {tool} finds something without a mistake: {seen.says}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
