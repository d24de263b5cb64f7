#!/usr/bin/env python
"""torchrun for tools/dist_*.sh: an error of a user stays one line, and the exit code is its own."""

import logging
import os
import sys
import tempfile
from pathlib import Path

from torch.distributed import DistNetworkError
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

if __name__ == '__main__':
    with tempfile.TemporaryDirectory(prefix='referformer-') as folder:
        mark = Path(folder, 'error')  # made by the process that prints the error
        os.environ['REFERFORMER_ERROR_MARK'] = str(mark)
        # What torchrun says of a failure (times, a traceback of its own) tells a user nothing.
        logging.getLogger('torch.distributed').setLevel(logging.CRITICAL)
        try:
            main()
        except DistNetworkError as error:
            sys.exit(f'error: {error}. Where the port is in use, name another one: PORT=29501')
        except ChildFailedError as error:
            if not mark.exists():  # a bug, which printed its traceback, or a signal
                print(error, file=sys.stderr)
            first = min(error.failures.values(), key=lambda failure: failure.timestamp)
            sys.exit(first.exitcode if first.exitcode > 0 else 1)
