"""`python -m ops`: the same command line as `durian`."""

from ops.cli import main

if __name__ == "__main__":
    main()
