"""From the content of a file to a validated document: which schema a file follows, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, TypeGuard, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from reports.errors import ReportError
from reports.reading.files import WRITTEN_BY, Content
from reports.reading.visible import brief
from reports.records.document import FORMAT, Document
from reports.records.fields import NEWER
from reports.records.policy_study import PolicyStudy
from reports.records.profile import ProfileFile
from reports.records.record import BenchmarkFile
from reports.records.self_test import SelfTest
from reports.records.sharpness import Sharpness
from reports.records.timing import Kind, TimingRun
from reports.records.training_study import TrainingHistory, TrainingStudy

KINDS: dict[str, type[Document]] = {
    "training": TrainingStudy,
    "history": TrainingHistory,
    "policies": PolicyStudy,
    "sharpness": Sharpness,
    "self-test": SelfTest,
    "profile": ProfileFile,
}
"""The schemas of files that name their kind."""
NAMED_BY = {
    "case_id": "the record", "fullname": "the benchmark", "group_id": "the group", "device_name": "the ceiling of",
}  # fmt: skip
"""By which field an object of a file is named if it is broken; the first that it has."""
AGAIN = "measure it again, or repair the file"
_Model = TypeVar("_Model", bound=BaseModel)


def schema_of(content: Content) -> type[BaseModel] | None:
    """Return the schema that a file follows by what its content says of itself, or None if it holds no result."""
    kind = content.get("kind")
    if isinstance(kind, str) and kind in KINDS:
        return KINDS[kind]
    if "timings" in content and kind in get_args(Kind):
        return TimingRun
    return BenchmarkFile if are_objects(content.get("benchmarks")) else None


def parsed(source: Path, content: Content) -> BaseModel:
    """Return the document that the file `source` holds, a lone history as a training study of one run without results.

    Raises `ReportError` if it is of no kind known here, broken, or was written by a newer moegap.
    """
    schema = schema_of(content)
    if schema is None:
        raise ReportError(f"{source} holds no result: {WRITTEN_BY}.")
    what, fix = "this result", AGAIN
    if issubclass(schema, Document):
        what, fix = f"this {content['kind']} file", f"run `moegap {schema.written_by}` again, or repair the file"
    document = validated(schema, content, source, what, fix)
    return parsed(source, _study(document, source)) if isinstance(document, TrainingHistory) else document


def validated(
    schema: type[_Model], content: Content, source: Path, what: str = "this result", fix: str = AGAIN
) -> _Model:
    """Return `content` as a `schema`, or raise `ReportError` that says where `what` is broken, and the `fix`."""
    try:
        document = schema.model_validate(content)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        if newer := next((each for each in errors if each["type"] == NEWER), None):
            version = brief(f"{newer['loc'][-1]} {newer['msg']}")
            raise ReportError(f"{source} was written by a newer moegap ({version}): upgrade moegap.") from None
        what, field = _named(content, errors[0]["loc"], what)
        place = f" at `{field}`" if field else ""
        reason = errors[0]["msg"].removeprefix("Value error, ")
        raise ReportError(f"{source}: {what} is broken{place} ({reason}): {fix}.") from None
    try:
        document.model_dump_json()
    except ValueError:
        raise ReportError(f"{source}: {what} holds text that is no Unicode: {fix}.") from None
    return document


def are_objects(value: object) -> TypeGuard[list[dict[str, Any]]]:
    """Return whether `value` is a list of JSON objects."""
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _named(content: Any, place: Sequence[int | str], what: str) -> tuple[str, str]:
    """Return the innermost object with a name on the way to the `place` of an error, and the field in it."""
    field = place
    for depth, step in enumerate(place, 1):
        try:
            content = content[step]
        except (KeyError, IndexError, TypeError):
            break
        if isinstance(content, dict):
            extra = content.get("extra_info")
            names = content | extra if isinstance(extra, dict) else content
            if key := next((key for key in NAMED_BY if key in names), None):
                what, field = f"{NAMED_BY[key]} {brief(names[key])}", place[depth:]
    return what, brief(".".join(map(str, field)))


def _study(file: TrainingHistory, source: Path) -> Content:
    """Return the content of a study of one run without results, as the history's config describes it."""
    config = file.config
    changes = config.get("head_changes")
    run = {
        "folder": source.parent.name or ".",
        "head": config.get("head"),
        "policy": changes.get("policy") if isinstance(changes, dict) else None,
        "seed": config.get("seed"),
        "history": file.history,
    }
    return {
        "format": FORMAT,
        "kind": "training",
        "command": file.command,
        "environment": file.environment,
        "preset": config.get("preset"),
        "data": PurePath(str(config.get("data", ""))).name,  # a folder of images goes by its name
        "epochs": config.get("epochs"),
        "runs": [run],
    }
