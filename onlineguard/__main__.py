"""`python -m onlineguard`: the command line."""

from onlineguard.cli import main

if __name__ == "__main__":
    main()
