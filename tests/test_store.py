"""Rows on disk, and outputs that are computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.processes import python
from transfer_parity.shared.core.arrays import SMALL_BYTES, Rows
from transfer_parity.shared.runtime.feature_store import Store


def test_rows_come_back(tmp_path: Path) -> None:
    rows = Rows.create(tmp_path / "a.npy", (6, 2, 3), np.float32)
    assert (len(rows), rows.shape, rows.dtype, rows.nbytes) == (6, (6, 2, 3), np.float32, 144)
    values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    rows[np.array([4, 1])] = values
    np.testing.assert_array_equal(rows[np.array([1, 4, 0])], np.stack([values[1], values[0], np.zeros((2, 3))]))
    # An ordinary file: NumPy reads it, too.
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), rows[:])
    np.testing.assert_array_equal(rows[1:4], np.load(tmp_path / "a.npy")[1:4])
    assert rows[np.array([], dtype=np.int64)].shape == (0, *rows.shape[1:])
    for outside in (-1, len(rows)):
        with pytest.raises(IndexError, match="and not row"):
            rows[np.array([0, outside])]


def test_what_was_read_can_be_changed_without_changing_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((3, 2)))
    rows = Rows(tmp_path / "a.npy")
    rows[:][0] = 7
    assert rows[:].max() == 1


def test_small_arrays_are_read_at_once(tmp_path: Path) -> None:
    small = Rows.create(tmp_path / "small.npy", (SMALL_BYTES // 8, 1), np.float64)
    large = Rows.create(tmp_path / "large.npy", (SMALL_BYTES // 8 + 1, 1), np.float64)
    assert isinstance(small.in_memory_if_small(), np.ndarray)
    assert large.in_memory_if_small() is large


def test_memory_stays_flat(tmp_path: Path) -> None:
    """400 MB read and written, a few rows at a time, in a process that keeps none of it."""
    program = (
        "import sys, pathlib, numpy as np\n"
        "from transfer_parity.shared.core import machine\n"
        "from transfer_parity.shared.core.arrays import Rows\n"
        "rows = Rows.create(pathlib.Path(sys.argv[1]), (4000, 25000), np.float32)\n"
        "before = machine.peak_memory_bytes()\n"
        "for start in range(0, 4000, 40):\n"
        "    rows[np.arange(start, start + 40)] = np.ones((40, 25000), np.float32)\n"
        "for start in range(0, 4000, 40):\n"
        "    assert rows[np.arange(start, start + 40)].min() == 1\n"
        "print(machine.peak_memory_bytes() - before)\n"
    )
    grown = int(python(program, tmp_path / "large.npy"))
    assert grown < 40 * 2**20


def test_only_what_is_missing_is_computed(tmp_path: Path) -> None:
    key = {"weights": "a", "size": 224}
    with Store(tmp_path, key, 5).opened() as store:
        needed = np.array([0, 3])
        np.testing.assert_array_equal(store.missing(needed), needed)
        store.note({"engine": "fused"})
        store.write(needed, np.array([[1.0], [2.0]], dtype=np.float32))
        store.commit(needed)
    with Store(tmp_path, key, 5).opened() as again:
        assert again.facts == {"engine": "fused"}
        np.testing.assert_array_equal(again.missing(np.arange(5)), [1, 2, 4])
        np.testing.assert_array_equal(again.outputs()[np.array([3, 0])], [[2.0], [1.0]])


def test_another_key_is_another_store(tmp_path: Path) -> None:
    with Store(tmp_path, {"size": 224}, 2).opened() as store:
        store.write(np.array([0]), np.ones((1, 1)))
        store.commit(np.array([0]))
    with Store(tmp_path, {"size": 192}, 2).opened() as other:
        assert len(other.missing(np.array([0, 1]))) == 2


def test_what_was_not_committed_does_not_count(tmp_path: Path) -> None:
    with Store(tmp_path, {}, 2).opened() as store:
        store.write(np.array([0, 1]), np.ones((2, 1)))
    with Store(tmp_path, {}, 2).opened() as again:
        assert len(again.missing(np.array([0, 1]))) == 2


@pytest.mark.parametrize("damage", ["index.json", "outputs.npy"])
def test_a_damaged_store_begins_afresh(tmp_path: Path, damage: str) -> None:
    with Store(tmp_path, {}, 2).opened() as store:
        store.write(np.array([0, 1]), np.ones((2, 1)))
        store.commit(np.array([0, 1]))
    path = store.folder / damage
    path.write_bytes(path.read_bytes()[:50])
    with Store(tmp_path, {}, 2).opened() as again:
        assert len(again.missing(np.array([0, 1]))) == 2
        again.write(np.array([0]), np.full((1, 1), 5.0))
        again.commit(np.array([0]))
        assert again.outputs()[np.array([0])] == 5.0


def test_changed_facts_count_for_nothing(tmp_path: Path) -> None:
    """Whatever is changed in the index, although it can still be read."""
    with Store(tmp_path, {}, 2).opened() as store:
        store.note({"engine": "fused"})
        store.write(np.array([0, 1]), np.ones((2, 1)))
        store.commit(np.array([0, 1]))
    path = store.folder / "index.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("fused", "fuged"), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    with Store(tmp_path, {}, 2).opened() as again:
        assert again.facts == {}
        assert len(again.missing(np.array([0, 1]))) == 2
