"""``python -m benchmarks NAME [options]`` runs ``benchmarks.NAME.main(options)``."""

import sys
from importlib import import_module
from pathlib import Path


def _names() -> list[str]:
    modules = sorted(Path(__file__).parent.glob("[a-z]*.py"))
    return [m.stem for m in modules if "\ndef main(" in m.read_text(encoding="utf-8")]


if len(sys.argv) < 2 or sys.argv[1] not in _names():
    sys.exit(f"usage: python -m benchmarks NAME [options]; names: {', '.join(_names())}")
import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
