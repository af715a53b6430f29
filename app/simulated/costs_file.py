"""Files of costs: TOML, or JSON when the name ends in .json. Names are those of `engine.simulated.costs.Work`, values simulated ns."""

import json
import tomllib
from pathlib import Path
from typing import Final

from engine.simulated.costs import DEFAULTS, CostError, Costs

FILE_MAX: Final = 1 << 16
"""Bytes of a file that are read."""


def read_costs(path: Path) -> Costs:
    """Defaults, with what the file names replaced. CostError in one line: no such file, not understood, no such cost."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except OSError as error:
        raise CostError(f"{path}: {error.strerror}") from None
    if len(data) > FILE_MAX:
        raise CostError(f"{path}: longer than {FILE_MAX} bytes")
    try:
        text = data.decode("utf-8")
        given = _parse_json(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise CostError(f"{path}: {error}") from None
    if not isinstance(given, dict):
        raise CostError(f"{path}: not an object of names and ns")
    try:
        return Costs(given)
    except CostError as error:
        raise CostError(f"{path}: {error}") from None


def _parse_json(text: str) -> object:
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = value
    return found


def costs_as_toml(costs: Costs) -> str:
    """A file that `read_costs` reads, with what each figure means."""
    lines = ["# Costs of a simulated machine in simulated ns, for everspaced simulate table1 --costs FILE."]
    values = costs.as_dict()
    for cost in DEFAULTS:
        lines += [
            "",
            f"# {cost.each}",
            f"# default {cost.ns}: {cost.source}",
            f"{cost.work} = {values[cost.work]}",
        ]
    return "\n".join(lines) + "\n"
