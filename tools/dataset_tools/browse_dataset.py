#!/usr/bin/env python
"""Draw what training sees; the same as ``referformer browse``."""

from referformer.commands.browse import main

if __name__ == '__main__':
    main()
