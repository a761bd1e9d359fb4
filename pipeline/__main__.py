"""`python -m pipeline`: the command line, where the command's name is taken by another program."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
