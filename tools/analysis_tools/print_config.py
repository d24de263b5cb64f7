#!/usr/bin/env python
"""Print a config with all it inherits: print_config.py CONFIG [--cfg-options KEY=VALUE ...]."""

import argparse
from collections.abc import Sequence

from referformer.cli import OptionsAction, user_errors
from referformer.engine.launch import read_config


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Read, then print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, or name of a model of the package')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE')
    args = parser.parse_args(argv)
    print(read_config(args.config, args.cfg_options).pretty_text)


if __name__ == '__main__':
    main()
