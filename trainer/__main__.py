"""`python -m trainer`: the command line, where the command's name is taken by another program."""

from trainer.cli import main

if __name__ == "__main__":
    main()
