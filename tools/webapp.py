#!/usr/bin/env python
"""A web page to try models on; the same as ``referformer serve``."""

from referformer.commands.serve import main

if __name__ == '__main__':
    main()
