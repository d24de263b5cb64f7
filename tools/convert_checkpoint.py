#!/usr/bin/env python
"""Convert weights between our names and the official ones; the same as ``referformer convert``."""

from referformer.commands.convert import main

if __name__ == '__main__':
    main()
