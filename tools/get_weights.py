#!/usr/bin/env python
"""Fetch published weights by name; the same as ``referformer get-weights``."""

from referformer.commands.get_weights import main

if __name__ == '__main__':
    main()
