"""`python -m onlineguard`: the command line."""

from onlineguard.cli.app import main

if __name__ == "__main__":
    main()
