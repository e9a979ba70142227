"""Runs the command `video-features`."""

import sys

from .signals import exit_when_interrupted


def main() -> None:
    exit_when_interrupted()  # the imports below take a moment
    from .engines.forkserver import start_early

    start_early(sys.argv[1:])
    from .cli.main import main as run

    run()


if __name__ == "__main__":
    main()
