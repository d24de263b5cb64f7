#!/usr/bin/env python
"""Segment what sentences name in a video; the same as ``referformer infer``."""

from referformer.commands.infer import main

if __name__ == '__main__':
    main()
