#!/usr/bin/env python
"""Write a model as ONNX graphs; the same as ``referformer export``."""

from referformer.commands.export import main

if __name__ == '__main__':
    main()
