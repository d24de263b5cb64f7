#!/usr/bin/env python
"""Test a checkpoint; the same as ``referformer test``."""

from referformer.commands.test import main

if __name__ == '__main__':
    main()
