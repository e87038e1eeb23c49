"""The plugin for pytest: ``def test_same(parity): parity.climb("pair.toml", until="trajectory")``.

Every pytest session of an environment that has this package imports this file, so nothing else is imported before a
test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transfer_parity.shared.contract.subject import Subject
    from transfer_parity.shared.subjects.document import SubjectParity

#: Of the fixture and the marker, of the option, and of the setting that names the file of accepted differences.
NAME, UPDATE, BASELINE = "parity", "--parity-update", "parity_baseline"
#: Behind the name of a pair's file, where no setting names another.
SUFFIX = ".baseline.json"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option and the setting."""
    group = parser.getgroup("transfer-parity", "models that are to be the same in two frameworks")
    record = "record what differs now as accepted, in the baseline file of each pair; those tests pass"
    group.addoption(UPDATE, action="store_true", default=False, help=record)
    kept = (
        f"file of accepted differences, relative to the root; default: the pair's with {SUFFIX} in place of its suffix"
    )
    parser.addini(BASELINE, kept, default="")


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    meaning = "keyword arguments of parity.climb() for this test, or for all of a class or module"
    config.addinivalue_line("markers", f"{NAME}(**arguments): {meaning}")


@pytest.fixture
def parity(request: pytest.FixtureRequest) -> Parity:
    """What climbs the parity ladder with a pair of one's own, and fails the test where the two differ."""
    arguments: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers(NAME))):
        arguments |= marker.kwargs
    setting = str(request.config.getini(BASELINE))
    return Parity(
        folder=request.path.parent,
        arguments=arguments,
        baseline=request.config.rootpath / setting if setting else None,
        update=bool(request.config.getoption(UPDATE)),
    )


class Parity:
    """The fixture.

    Args:
        folder: of the test's file, which paths are relative to.
        arguments: of ``climb``, where a call says nothing else.
        baseline: file of accepted differences; None: one beside each pair's file.
        update: whether to record what differs now.
    """

    def __init__(self, folder: Path, arguments: Mapping[str, Any], baseline: Path | None, update: bool) -> None:
        self._folder, self._arguments = folder, arguments
        self._baseline, self._update = baseline, update

    def climb(self, subject: Subject | str | Path | None = None, **arguments: Any) -> SubjectParity:
        """Climb, and fail with the first divergence, both names, the numbers and the suspected cause.

        Args:
            subject: a pair, or its TOML file relative to the test's folder; None where keys of one are given.
            arguments: of ``transfer_parity.climb``, ``baseline`` relative to the test's folder.

        Returns:
            What came of it, where everything passed or is accepted.
        """
        # pytest leaves these frames out of what it shows of a failure.
        __tracebackhide__ = True
        from transfer_parity.shared.core.errors import BadInput, WorkerFailed
        from transfer_parity.shared.report import subject as report
        from transfer_parity.shared.runtime import subject_launch
        from transfer_parity.shared.subjects import api

        given = {**self._arguments, **arguments}
        root, baseline = given.pop("root", None), given.pop("baseline", None)
        options = {name: given.pop(name) for name in ("threads", "explain", "exports", "tell") if name in given}
        try:
            if isinstance(subject, str | Path):
                subject = self._folder / subject
            pair, folder = api.described(subject, given, self._folder / root if root else None, "parity.climb()")
            if not isinstance(subject, Path) and root is None:
                folder = self._folder
        except BadInput as error:
            pytest.fail(str(error), pytrace=False)
        for name, side in pair.sides.items():
            try:
                subject_launch.make_sure_of(side)
            except BadInput as error:
                pytest.skip(f"side {name} cannot be climbed here: {error}")
        path = self._accepted(subject, baseline)
        update = self._update and path is not None
        if path is not None and not update and not path.exists() and baseline is None:
            # Nothing has been recorded yet.
            path = None
        try:
            document = api.climb(pair, root=folder, baseline=path, update=update, **options)
        except (BadInput, WorkerFailed) as error:
            words = getattr(error, "last_words", "")
            pytest.fail(f"{error}\n{words}".rstrip(), pytrace=False)
        if not document.passed:
            pytest.fail("\n".join(report.lines(document)), pytrace=False)
        return document

    def _accepted(self, subject: Subject | Path | str | None, given: str | Path | None) -> Path | None:
        """File of accepted differences."""
        if given is not None:
            return self._folder / given
        if self._baseline is not None:
            return self._baseline
        return subject.with_name(subject.stem + SUFFIX) if isinstance(subject, Path) else None
