"""`python -m understudy` and the command `understudy`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from understudy.own_packages import shadowed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, unless another package stands in the place of one of ours.

    Args:
        argv: its arguments; None: those of the process.

    Returns:
        The exit status, see `experiments.cli`.
    """
    problem = shadowed()
    if problem is not None:
        print(f"understudy: {problem}", file=sys.stderr)
        return 2
    from experiments.cli import main as command

    return command(argv)


if __name__ == "__main__":
    sys.exit(main())
