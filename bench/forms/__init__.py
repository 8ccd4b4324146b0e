"""Forms: the ways of executing a head, one per file, and the anchors that they are compared with.

Forms that other packages execute are in `packages`.

To add a form, write one file in this folder that defines `FORM`, or `FORMS` for several that differ little. A form of
another package joins through the entry-point group `moegap.forms`, and nothing here is edited:

    [project.entry-points."moegap.forms"]
    theirs = "their_package:FORM"
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from bench.errors import BenchError, message
from bench.execution.form import Form, Runner

__all__ = ["Form", "Runner", "default_forms", "form", "forms"]

ENTRY_POINTS = "moegap.forms"
_joined: dict[str, tuple[str, Form]] = {}


@cache
def forms() -> dict[str, Form]:
    """Return every form by name, in order of `rank`, the naive ones first.

    Raises `BenchError` if a package brings a form whose name is taken.
    """
    sources: dict[str, str] = {}
    collected: list[Form] = []
    for source, form in (*_built_in(), *_installed(), *_joined.values()):
        if form.name in sources:
            raise BenchError(
                f"two forms are named {form.name!r}, one in {sources[form.name]} and one in {source}; "
                f"uninstall {source} or rename its form"
            )
        sources[form.name] = source
        collected.append(form)
    return {form.name: form for form in sorted(collected, key=lambda form: (form.rank, form.name))}


def join(source: str, *more: Form) -> None:
    """Add forms that no package brings, from a `source` in words; one that is there already changes nothing."""
    _joined.update({form.name: (source, form) for form in more})
    forms.cache_clear()


def default_forms() -> list[str]:
    """Return the names of the forms that are measured unless others are named."""
    return [name for name, form in forms().items() if form.default]


def form(name: str) -> Form:
    """Return the form `name`, or raise `BenchError` naming those there are."""
    try:
        return forms()[name]
    except KeyError:
        raise BenchError(f"unknown form {name!r}; choose one of {', '.join(forms())}") from None


def _built_in() -> Iterator[tuple[str, Form]]:
    """Yield each form of this folder and of `packages` after its source in words."""
    for file in pkgutil.walk_packages(__path__, f"{__name__}."):
        module = importlib.import_module(file.name)
        for form in (*getattr(module, "FORMS", ()), *([module.FORM] if hasattr(module, "FORM") else [])):
            yield "moegap itself", form


def _installed() -> Iterator[tuple[str, Form]]:
    """Yield each form of another package after the package in words."""
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        yield f"package {entry.dist.name if entry.dist else entry.value}", _loaded(entry)


def _loaded(entry: EntryPoint) -> Form:
    """Return the form of an entry point; if it cannot be loaded, a form that never runs and says why."""
    try:
        form = entry.load()
    except Exception as error:  # whatever a foreign package raises must not stop the other forms
        return _broken(entry, message(error))
    return form if isinstance(form, Form) else _broken(entry, f"it is a {type(form).__name__}, not a Form")


def _broken(entry: EntryPoint, problem: str) -> Form:
    reason = f"the entry point {entry.value} cannot be loaded: {problem}; repair or uninstall its package"

    def prepare(head: object, example: object) -> Runner:
        raise BenchError(reason)

    return Form(entry.name, 1000, "a form of another package that cannot be loaded", lambda *_: reason, prepare)
