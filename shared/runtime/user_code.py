"""The user's own functions, in their framework's process: factories, preprocessing, losses, optimizers."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from transfer_parity.shared.contract.wings import WINGS
from transfer_parity.shared.core.errors import BadInput, did_you_mean


def find(place: str, root: Path) -> Callable[..., Any]:
    """The function at ``package.module:function`` or ``path/to/file.py:function``.

    What lies beside the file, or in the root, can be imported by it.

    Args:
        place: of the function.
        root: folder that files are relative to.

    Raises:
        BadInput: there is no such file, module or function, or importing it fails.
    """
    where, _, name = place.rpartition(":")
    for folder in (str(root), str((root / where).parent) if where.endswith(".py") else str(root)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    if where.endswith(".py"):
        path = (root / where).resolve()
        if not path.is_file():
            raise BadInput(f"{place}: there is no file {path}; mend the path, which is relative to the pair's file.")
        module = _guarded(f"importing {path}", lambda: _loaded(path))
    else:
        try:
            known = importlib.util.find_spec(where) is not None
        except (ImportError, ValueError):
            known = False
        if not known:
            raise BadInput(f"{place}: there is no module {where}; install it, or give path/to/file.py:{name}.")
        module = _guarded(f"importing {where}", lambda: importlib.import_module(where))
    function = getattr(module, name, None)
    if not callable(function):
        offered = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise BadInput(f"{place}: {where} has no function {name}; {did_you_mean(name, offered)}")
    found: Callable[..., Any] = function
    return found


def called(place: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What a user's function returns.

    Raises:
        BadInput: it raises something; its last lines are shown.
    """
    return _guarded(f"{place} raised", lambda: function(*arguments, **named))


def cannot_be_called(error: Exception, shapes: Iterable[tuple[int, ...]]) -> BadInput:
    """What to say of a model whose forward pass fails with inputs of these shapes."""
    told = " ".join(str(error).split())[:300]
    return BadInput(
        f"the model cannot be called with inputs of shape {', '.join(map(str, shapes))} ({type(error).__name__}: "
        f"{told}); mend the shapes under [inputs], the preprocessing, or the model."
    )


def require_outputs(outputs: Sequence[object]) -> None:
    """Make sure that a model returns any tensor.

    Raises:
        BadInput: it does not.
    """
    if not outputs:
        raise BadInput("the model returns no tensor; it has to return one, or several in a tuple or list.")


def require_checkpoint(path: Path) -> None:
    """Make sure that a checkpoint of the user's is there.

    Raises:
        BadInput: it is not.
    """
    if not path.is_file():
        raise BadInput(f"there is no checkpoint {path}; mend the path, which is relative to the pair's file.")


def does_not_fit(checkpoint: Path, error: Exception) -> BadInput:
    """What to say of a checkpoint that a model refuses."""
    told = " ".join(str(error).split())[:300]
    return BadInput(f"{checkpoint} does not fit the model ({told}); give the checkpoint of this model.")


def last_lines(error: BaseException) -> str:
    """Where a user's code failed, and with what: the innermost lines of its traceback that are not this project's."""
    ours = str(Path(__file__).resolve().parents[2])
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith(ours)]
    frames = frames or list(traceback.extract_tb(error.__traceback__))
    where = "".join(f" at {Path(each.filename).name}:{each.lineno}: {(each.line or '').strip()}" for each in frames[:1])
    inner = frames[-1] if frames else None
    if inner is not None and len(frames) > 1:
        where += f" -> {Path(inner.filename).name}:{inner.lineno}"
    told = " ".join(str(error).split())
    return f"{type(error).__name__}: {told[:300]}{where}"


def calling_line(framework: str, made: object = None) -> str | None:
    """ "file:line" of the innermost call on the stack that is neither this project's nor the framework's.

    Args:
        framework: a file of the framework's package, beside which all its others lie.
        made: what is being constructed: its own constructors are not where it is made.

    Returns:
        None where the user's code calls nothing.
    """
    # Not all of the project's folder: examples and tests, which hold models, may lie there, too.
    ours = Path(__file__).resolve().parents[2]
    packages = [str(ours / wing.package.rpartition(".")[2]) for wing in WINGS]
    others = (*packages, str(ours / "shared"), str(Path(framework).resolve().parent), "<")
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        own = made is not None and code.co_argcount > 0 and frame.f_locals.get(code.co_varnames[0]) is made
        if not own and not code.co_filename.startswith(others):
            return f"{code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def _loaded(path: Path) -> Any:
    name = f"_pair_{abs(hash(str(path))):x}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _guarded(what: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except BadInput:
        raise
    except (Exception, SystemExit) as error:
        raise BadInput(f"{what}: {last_lines(error)}; mend it and run again.") from error
