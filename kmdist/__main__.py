"""`python -m kmdist` is `kmdist`."""

from kmdist.cli import main

if __name__ == "__main__":
    main()
