"""Names as parts of a subject: pools, hosts and runner ids may hold dots, a part of a subject may not."""

from podium import names

_DOT = "~"
"""In no name (see names.token), and allowed in subjects, keys and consumer names."""


def part(name: str) -> str:
    """Return a pool, host, runner or provider name as one part of a subject; raises InvalidArgument."""
    return names.token(name, "name").replace(".", _DOT)


def name_of(part_of_subject: str) -> str:
    """Return the name that `part` was given."""
    return part_of_subject.replace(_DOT, ".")
