"""`python -m rltrain`, where the command itself is not on the path."""

from rltrain.cli import main

if __name__ == "__main__":
    main()
