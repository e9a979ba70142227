"""Runs the command `video-features`."""

from .signals import exit_when_interrupted


def main() -> None:
    exit_when_interrupted()  # the import below takes a moment
    from .cli.main import main as run

    run()


if __name__ == "__main__":
    main()
