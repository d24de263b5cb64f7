#!/usr/bin/env python
"""Train a model; the same as ``referformer train``."""

from referformer.commands.train import main

if __name__ == '__main__':
    main()
