"""Speed verdicts on simulated clocks: right about as often as they promise."""

from __future__ import annotations

import numpy as np
import pytest

from transfer_parity.shared.contract import engines
from transfer_parity.shared.contract.engines import Engine
from transfer_parity.shared.contract.results import WorkerResult
from transfer_parity.shared.contract.wings import Framework
from transfer_parity.shared.evaluation import significance, speed
from transfer_parity.shared.evaluation.speed import Repeat


def worker(seconds: float, others: float = 0.0) -> WorkerResult:
    return WorkerResult(
        versions={},
        device="CPU",
        phases={"start": seconds / 4, "features": seconds / 2, "training": seconds / 4, "inference": 0.0},
        cpu_seconds=seconds,
        wall_seconds=seconds,
        involuntary_context_switches=0,
        others_share=others,
        peak_memory_bytes=1,
    )


def repeats(tensorflow: list[float], torch: list[float], disturbed: tuple[int, ...] = ()) -> list[Repeat]:
    found = []
    columns: tuple[tuple[Framework, list[float]], ...] = (("tensorflow", tensorflow), ("torch", torch))
    for number in range(len(torch)):
        for framework, seconds in columns:
            measured = worker(seconds[number], 0.5 if number in disturbed and framework == "torch" else 0.0)
            found.append(Repeat.of(framework, "tuned", "float32", number, measured))
    return found


def test_a_clear_difference() -> None:
    found = speed.compare(repeats([2.0, 2.1, 1.9, 2.0, 2.05], [1.0] * 5))
    assert found.verdict == "torch"
    assert "PyTorch is faster here by 2.00 times" in found.sentence
    assert [ratio.what for ratio in found.ratios] == ["all", "start", "features", "training"]
    assert speed.compare(repeats([1.0] * 5, [2.0, 2.1, 1.9, 2.0, 2.05])).verdict == "tensorflow"


def test_too_few_repeats_give_no_verdict() -> None:
    found = speed.compare(repeats([2.0, 2.0, 2.0, 2.0], [1.0] * 4))
    assert found.verdict == "no difference found"
    assert "needs 5 undisturbed repeats" in found.sentence
    assert speed.compare(repeats([2.0], [1.0])).verdict == "not compared"
    assert speed.compare([]).verdict == "not compared"


def test_what_cannot_be_compared_says_why() -> None:
    busy = speed.compare(repeats([1.0] * 5, [1.0] * 5, disturbed=(0, 1, 2, 4)))
    assert busy.verdict == "not compared"
    assert "others used the cores in 4 of 5 repeats" in busy.sentence
    clocks = repeats([2.0] * 5, [1.0] * 5)
    torch = [each.worker.model_copy(update={"device": "GPU 7"}) for each in clocks if each.framework == "torch"]
    apart = [
        each.model_copy(update={"worker": torch[each.number]}) if each.framework == "torch" else each for each in clocks
    ]
    found = speed.compare(apart)
    assert found.verdict == "not compared"
    assert "TensorFlow ran on CPU, PyTorch on GPU 7" in found.sentence


def test_two_runtimes_of_one_framework() -> None:
    clocks = repeats([3.0, 3.0, 9.0], [1.0, 1.0, 1.0], disturbed=(2,))
    slow, fast = ([each for each in clocks if each.framework == name] for name in ("tensorflow", "torch"))
    ratio = speed.against(slow, fast)
    assert ratio is not None
    # The disturbed pair does not count.
    assert (ratio.median, ratio.repeats) == (3.0, 2)
    assert speed.against(slow[:1], fast) is None


def test_disturbed_pairs_do_not_count() -> None:
    clocks = repeats([1.0, 1.01, 0.99, 1.0, 1.02, 9.0], [1.0] * 6, disturbed=(5,))
    assert [repeat.disturbed for repeat in clocks[-2:]] == [None, "others used 50 % of the cores"]
    found = speed.compare(clocks)
    assert found.ratios[0].repeats == 5
    assert found.ratios[0].median == 1.0


@pytest.mark.parametrize("repeated", [5, 10])
@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_equal_workers_are_seldom_called_different(repeated: int, noise: float) -> None:
    """At most 1 in 20. 1,000 simulations estimate a rate of 5 % to within 1.4 % (two standard errors)."""
    random = np.random.default_rng(repeated)
    intervals = [
        significance.ratio_interval(np.exp(random.normal(0, noise, repeated)), resamples=1000) for _ in range(1000)
    ]
    wrong = np.mean([low > 1 or high < 1 for low, high in intervals])
    assert wrong <= 0.064
    # An interval that never excludes 1 would pass as well.
    assert wrong > 0.01


def test_a_slowdown_of_ten_per_cent_is_found() -> None:
    """In 9 of 10 trials and more, where repeats scatter by 3 % each."""
    random = np.random.default_rng(0)
    found = [
        speed.compare(repeats(list(1.1 * np.exp(random.normal(0, 0.03, 5))), list(np.exp(random.normal(0, 0.03, 5)))))
        for _ in range(100)
    ]
    assert np.mean([each.verdict == "torch" for each in found]) >= 0.9


def test_so_many_repeats_find_a_difference() -> None:
    """As many as the scatter asks for find it in about 9 of 10 cases, and half as many do not."""
    random = np.random.default_rng(0)
    needed = significance.repeats_to_find(np.exp([0.1, -0.1, 0.1, -0.1, 0.1, -0.1]), 1.1)
    assert needed is not None

    def power(n: int) -> float:
        logs = np.log(1.1) + random.normal(0, np.std([0.1, -0.1] * 3, ddof=1), (1000, n))
        intervals = np.array([significance.difference_interval(each) for each in logs])
        return float(np.mean(intervals[:, 0] > 0))

    # Two standard errors of 1,000 simulations are 1.9 %.
    assert 0.88 <= power(needed) <= 0.95
    assert power(needed // 2) < 0.75
    assert significance.repeats_to_find(np.array([1.0]), 1.1) is None
    assert significance.repeats_to_find(np.array([1.0, 1.0]), 1.1) == 2
    assert significance.repeats_to_find(np.array([0.01, 100.0]), 1.1) is None


def test_the_sentence_says_how_many_repeats_it_takes() -> None:
    found = speed.compare(repeats([1.0, 1.1, 0.9, 1.0, 1.1, 0.9], [1.0] * 6))
    assert found.verdict == "no difference found"
    assert f"to find a difference of 10% takes about {found.ratios[0].repeats_to_find}" in found.sentence
    found = speed.compare(repeats([1.0, 1.01, 0.99, 1.0, 1.01, 0.99], [1.0] * 6))
    assert "takes about" not in found.sentence


ENGINES = (Engine("eager"), Engine("fused", 0.3, 1.2), Engine("compiled", 25, 1.5))


@pytest.mark.parametrize(("seconds", "name"), [(0.1, "eager"), (10, "fused"), (1000, "compiled")])
def test_set_up_must_pay_for_itself(seconds: float, name: str) -> None:
    choice = engines.choose(ENGINES, seconds * 2 * engines.RATE * ENGINES[0].efficiency, threads=2)
    assert choice.name == name
    assert f"{seconds:.1f}" in choice.reason
    # The same work, for twice the threads, is half as long.
    assert engines.choose(ENGINES, seconds * 4 * engines.RATE * ENGINES[0].efficiency, threads=4) == choice
