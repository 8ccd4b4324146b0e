"""Forms: the ways of executing a trained head, one per file.

A form is added by writing one file in this folder that defines `FORM`; the registry finds it.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from bench.errors import BenchError
from bench.forms.form import Form, Runner

__all__ = ["Form", "Runner", "form", "forms"]


@cache
def forms() -> dict[str, Form]:
    """Return every form by name, in the order of their `rank`, the naive ones first."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    found = [module.FORM for module in modules if hasattr(module, "FORM")]
    return {form.name: form for form in sorted(found, key=lambda form: (form.rank, form.name))}


def form(name: str) -> Form:
    """Return the form `name`, or raise `BenchError` naming those there are."""
    try:
        return forms()[name]
    except KeyError:
        raise BenchError(f"unknown form {name!r}; choose one of {', '.join(forms())}") from None
