#!/usr/bin/env python
"""Gather a trained model in a folder; the same as ``referformer publish``."""

from referformer.commands.publish import main

if __name__ == '__main__':
    main()
