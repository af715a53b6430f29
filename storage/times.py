"""Times as people and programs are told them: RFC 3339, in UTC, with a Z."""

from datetime import UTC, datetime


def instant(when: datetime | None) -> str | None:
    """To the second, for tables and for the journal's texts; None stays None."""
    return None if when is None else f"{when.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def exact(when: datetime | None) -> str | None:
    """As exact as it is known, for JSON, as the API has it; None stays None."""
    return None if when is None else when.astimezone(UTC).isoformat().replace("+00:00", "Z")
