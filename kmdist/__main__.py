"""The script `kmdist`, and `python -m kmdist`."""

import signal


def main() -> None:
    """Run the command line; an interrupt while it is loaded ends it as it ends other programs."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # else ignored, as in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from kmdist.cli import main as run

    signal.signal(signal.SIGINT, handler)
    run()


if __name__ == "__main__":
    main()
