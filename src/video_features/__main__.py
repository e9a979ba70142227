"""Runs the command `video-features`."""

import sys

from .engines.forkserver import start_early
from .signals import exit_when_interrupted


def main() -> None:
    exit_when_interrupted()  # the import below takes a moment
    start_early(sys.argv[1:])
    from .cli.main import main as run

    run()


if __name__ == "__main__":
    main()
