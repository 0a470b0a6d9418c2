"""Source code of a function, displayed under the equation that it implements."""

import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]


def source_of(function: Callable) -> str:
    """Return Markdown: the file and line of a function, method or class, then its source as a Python block.

    Markdown needs no trust: JupyterLab renders it in an untrusted notebook as well, and nbconvert highlights it.
    """
    function = inspect.unwrap(function)
    code = inspect.getsource(function)
    path = Path(inspect.getsourcefile(function) or "").resolve()
    place = path.relative_to(PACKAGE.parent) if path.is_relative_to(PACKAGE) else Path(path.name)
    _, line = inspect.getsourcelines(function)
    return f"`{place.as_posix()}`, line {line}:\n\n```python\n{textwrap.dedent(code).rstrip()}\n```"


def show_source(function: Callable) -> Any:
    """Return the source of a function as something a notebook displays."""
    from IPython.display import Markdown

    return Markdown(source_of(function))
