#!/usr/bin/env python
"""Score files of masks without a model; the same as ``referformer score``."""

from referformer.commands.score import main

if __name__ == '__main__':
    main()
