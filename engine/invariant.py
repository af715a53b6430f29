"""Broken invariants: bugs of ours, never a caller's mistake."""


class InvariantError(RuntimeError):
    """Something that can never be false was false. Not an `EngineError`: nobody may handle it."""


def invariant(holds: bool, statement: str, **values: object) -> None:
    """Raise `InvariantError` unless `holds`; survives `python -O`.

    `statement` names the invariant of docs/invariants.md ("I3: …"); `values` are printed beside it.
    """
    if not holds:
        shown = ", ".join(f"{name}={value!r}" for name, value in values.items())
        raise InvariantError(f"{statement} ({shown})" if shown else statement)
