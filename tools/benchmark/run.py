#!/usr/bin/env python
"""Measure time and memory; the same as ``referformer benchmark``."""

from referformer.commands.benchmark import main

if __name__ == '__main__':
    main()
