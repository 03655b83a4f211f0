"""The `dreamerv2` command: one word for each program, loaded only when it is asked for."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

PROGRAMS = {
    "train": ("dreamerv2.train", "train an agent, or continue a run"),
    "sweep": ("dreamerv2.sweep", "train on many tasks with many seeds, on many machines"),
    "evaluate": ("dreamerv2.evaluate", "let a trained agent play: scores, videos, dreams"),
    "play": ("dreamerv2.play", "steer a game inside the world model, in a browser"),
    "check": ("dreamerv2.checking", "say what is wrong with an environment of your own"),
    "scores": ("dreamerv2.common.scores", "the paper's tables, with your runs beside them"),
    "plot": ("dreamerv2.common.plot", "the paper's figures, or curves of your runs"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``dreamerv2 <program> [flags]`` and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: dreamerv2 <program> [flags]\n\nprograms:")
        for name, (_, meaning) in PROGRAMS.items():
            print(f"  {name:10} {meaning}")
        print("\nEach program explains its flags with --help.")
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in PROGRAMS:
        near = difflib.get_close_matches(name, PROGRAMS, 1, 0.0)[0]
        print(f"error: there is no program {name!r}; did you mean {near}?", file=sys.stderr)
        return 2
    program = importlib.import_module(PROGRAMS[name][0])
    return program.main(rest, f"dreamerv2 {name}")


if __name__ == "__main__":
    sys.exit(main())
