"""The command `onlineguard`, also as `python -m onlineguard`. The command line itself is an optional part."""

import sys

from onlineguard.errors import MissingExtra
from onlineguard.extras import require


def main() -> None:
    """Run the command line; without the packages it needs, say so in one line and leave with exit code 2."""
    try:
        require("`onlineguard`", "cli")
    except MissingExtra as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    from onlineguard.cli import app

    app.main()


if __name__ == "__main__":
    main()
