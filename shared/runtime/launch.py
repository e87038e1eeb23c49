"""Starts a framework's worker process, follows its progress, and says what went wrong if it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transfer_parity.shared.contract import artifacts, jobs, wings
from transfer_parity.shared.contract.jobs import Job, Runtime
from transfer_parity.shared.contract.recipe import Framework
from transfer_parity.shared.contract.results import WorkerResult
from transfer_parity.shared.core import lifeline, machine, notices, scratch
from transfer_parity.shared.core.errors import BAD_INPUT, BadInput, WorkerFailed
from transfer_parity.shared.core.progress import Progress
from transfer_parity.shared.runtime import installed, start
from transfer_parity.shared.runtime.start import SPAWNED_AT

ROOT = Path(__file__).resolve().parents[2]
#: Called with an event's name and its details.
Listener = Callable[[str, dict[str, Any]], None]

#: glibc gives freed memory back to the system after every large tensor and faults it in again for the next one, which
#: costs a torch process most of its time and a TensorFlow process little. Both workers keep their memory instead.
#: Other C libraries ignore these names.
ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_MMAP_MAX_": "0", "MALLOC_TOP_PAD_": str(2**26)}
#: Let glibc (2.35 and later) ask the kernel for huge pages, which saves a few per cent of address translation.
TUNABLES = "GLIBC_TUNABLES"
HUGE_PAGES = "glibc.malloc.hugetlb=1"


def allocator() -> dict[str, str]:
    """Environment variables for the C library's allocator; what the user has set among glibc's tunables stays."""
    given = os.environ.get(TUNABLES, "")
    tunables = given if "glibc.malloc.hugetlb" in given else ":".join(filter(None, (given, HUGE_PAGES)))
    return {**ALLOCATOR, TUNABLES: tunables}


def environment(threads: int, runtime: Runtime = "tuned") -> dict[str, str]:
    """A worker's environment: the parent's, with the same allocator behaviour and thread count for both frameworks.

    Under the profile "stock" the parent's, as it is.
    """
    tuned = {**allocator(), "OMP_NUM_THREADS": str(threads)}
    return {
        **os.environ,
        **(tuned if runtime == "tuned" else {}),
        "PYTHONUNBUFFERED": "1",
        SPAWNED_AT: repr(time.monotonic()),
    }


def command(framework: Framework, runtime: Runtime, folder: Path) -> list[str]:
    """What starts a worker for a job in a folder; under the profile "stock" without what makes imports quicker."""
    imports = start.AS_INSTALLED if runtime == "stock" else start.WITHOUT_EXTRAS
    # -P: nothing that lies in the current folder is taken for a module.
    return [
        sys.executable,
        "-P",
        "-m",
        start.__name__,
        wings.wing(framework).package,
        str(folder.resolve()),
        imports,
    ]


def shown(progress: Progress, label: str) -> Listener:
    """Turns a process's events into progress: that it starts, and how far each phase is."""

    def listen(event: str, details: dict[str, Any]) -> None:
        if event == "started":
            progress(f"{label}: starting", 0, 0)
        elif event == "progress":
            progress(f"{label}: {details['phase']}", details["done"], details["total"])

    return listen


def run(
    framework: Framework,
    job: Job,
    folder: Path,
    listen: Listener = lambda event, details: None,
    more: Mapping[str, str] | None = None,
) -> WorkerResult:
    """Run a job in a process of its own and wait for it.

    Args:
        framework: whose wing.
        job: what to do; written into the folder.
        folder: receives the results.
        listen: hears every event of the worker, progress among them.
        more: environment variables of this process alone.

    Raises:
        BadInput: the framework is not installed, or the worker found something wrong with what it was given.
        WorkerFailed: it ended in any other way. What it had finished by then lies in the folder.
    """
    installed.make_sure_of([framework])
    folder.mkdir(parents=True, exist_ok=True)
    jobs.write(job, folder)
    execution = job.execution
    watch = machine.Watch()
    follow(
        framework,
        command(framework, execution.runtime, folder),
        {**environment(execution.threads, execution.runtime), **(more or {})},
        folder,
        listen,
        "lower --batch-size, --inference-batch-size or --image-size, or choose a smaller --backbone",
    )
    written = folder / artifacts.WORKER_RESULT
    if not written.is_file():
        # Code of a user's may call exit(), which Python takes for success.
        raise WorkerFailed(
            f"the {framework} worker ended with exit status 0 before its work was done.",
            framework,
            _last_words(folder / artifacts.LOG),
        )
    result = WorkerResult.model_validate_json(written.read_text(encoding="utf-8"))
    return result.model_copy(update={"others_share": watch.others_share(result.cpu_seconds)})


def follow(
    framework: Framework, command: list[str], environment: dict[str, str], folder: Path, listen: Listener, thrift: str
) -> None:
    """Start a process that tells events as JSON lines, and wait for its end.

    Args:
        framework: whose process it is.
        command: that starts it.
        environment: of it.
        folder: in which it runs, and which keeps what it writes to its error output.
        listen: hears every event.
        thrift: what to do if there is too little memory, for the sentence that says so.

    Raises:
        BadInput: the process found something wrong with what it was given.
        WorkerFailed: it ended in any other way.
    """
    log = folder / artifacts.LOG
    complaint = out_of_memory = None
    with (
        log.open("wb") as errors,
        # TensorFlow writes the code that it generates to files, and a worker ends too abruptly to delete them.
        scratch.folder(artifacts.SCRATCH) as temporary,
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment | lifeline.environment() | {"TMPDIR": str(temporary)},
            stdin=lifeline.STDIN,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        listen("started", {"pid": process.pid})
        try:
            for line in process.stdout:
                event = _parsed(line)
                if event is None:
                    continue
                name = event.pop("event")
                if name == "bad_input":
                    complaint = event["message"]
                elif name == "out_of_memory":
                    out_of_memory = event["reason"]
                elif name == "notice":
                    notices.say(event["message"])
                listen(name, event)
            status = process.wait()
        except BaseException:
            process.kill()
            raise
    if status == BAD_INPUT and complaint is not None:
        raise BadInput(complaint)
    if out_of_memory is not None:
        raise WorkerFailed(f"the {framework} worker has run out of memory ({out_of_memory}); {thrift}.", framework)
    if status != 0:
        raise WorkerFailed(_obituary(framework, status), framework, _last_words(log))


def _parsed(line: str) -> dict[str, Any] | None:
    """An event, or None for a line that a framework printed before the worker could redirect it."""
    try:
        event = json.loads(line)
    except json.JSONDecodeError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _obituary(framework: Framework, status: int) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        guess = "; it may have run out of memory, lower the batch size" if name == "SIGKILL" else ""
        return f"the {framework} worker was killed by {name}{guess}."
    return f"the {framework} worker failed with exit status {status}."


def _last_words(log: Path, lines: int = 12) -> str:
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    return "\n".join(text.splitlines()[-lines:])
