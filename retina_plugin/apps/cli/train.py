"""``retina train``: ``train_net.py`` from any folder."""

from collections.abc import Sequence

from ...training.arguments import argument_parser

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Train or evaluate; the return value is the exit status of ``engine.cli.main``."""
    argument_parser("retina train").parse_args(argv)  # answers --help and mistakes before torch is imported
    from ...training.run import main as train

    return train(argv)
