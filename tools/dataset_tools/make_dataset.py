#!/usr/bin/env python
"""Make a data set from own videos; the same as ``referformer make-dataset``."""

from referformer.commands.make_dataset import main

if __name__ == '__main__':
    main()
