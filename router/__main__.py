"""Runs the command line as `python -m router`, for places where the `turnout` script is not on PATH."""

from router.cli import main

if __name__ == "__main__":
    main()
