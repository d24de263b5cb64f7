#!/usr/bin/env python
"""Read all that a config would read; the same as ``referformer verify``."""

from referformer.commands.verify import main

if __name__ == '__main__':
    main()
