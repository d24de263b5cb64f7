"""Serve a web page to try models on: a video and sentences in; masks, overlay, curves out.

%(prog)s                  opens http://127.0.0.1:7860 for this machine only; Ctrl-C ends it
%(prog)s --config CONFIG --report report.html    shows a dataset's samples and the worst errors, too
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..cli import user_errors
from ..engine.device import check_device
from ..engine.launch import read_config
from ..zoo import DEFAULT_MODEL


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--model', default=DEFAULT_MODEL, help='chosen at first (default: %(default)s)')
    add('--device', default='auto', help='cpu, cuda, cuda:1, ...; default: auto')
    add('--host', default='127.0.0.1', help='0.0.0.0 lets others in (default: %(default)s)')
    add('--port', type=int, default=7860, help='default: %(default)s')
    add('--max-size', type=int, default=200, help='of an upload, in MB (default: %(default)s)')
    add('--max-length', type=float, default=60, help='of a video, in s (default: %(default)s)')
    add('--max-time', type=float, default=600, help='for a video, in s (default: %(default)s)')
    add('--max-queue', type=int, default=20, help='visitors that wait (default: %(default)s)')
    add('--workers', type=int, default=1, help='videos at the same time (default: %(default)s)')
    add('--config', help='its validation samples are shown in a second tab')
    add('--report', type=Path, help='of analyze_results.py, for the second tab')
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Check everything, then serve until Ctrl-C."""
    args = parse_args(argv)
    limits = ('max_size', 'max_length', 'max_time', 'max_queue', 'workers')
    for name in limits:
        if not getattr(args, name) > 0:
            option = name.replace('_', '-')
            raise ValueError(f'--{option} must be more than 0, got {getattr(args, name)}')
    check_device(args.device)
    read_config(args.model)
    if args.report and not args.report.is_file():
        raise FileNotFoundError(f'--report {args.report} not found; analyze_results.py writes it')
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends with temporary files removed
    with tempfile.TemporaryDirectory(prefix='referformer-serve-') as folder:
        os.environ['GRADIO_TEMP_DIR'] = folder  # read when Gradio is imported
        os.environ.setdefault('GRADIO_ANALYTICS_ENABLED', 'False')
        from ..inference.export import optional

        optional('gradio', 'serve')
        from ..serve.jobs import Jobs, Limits
        from ..serve.page import LOOK, make_page

        with Jobs(Limits(*(getattr(args, name) for name in limits)), args.device) as jobs:
            page = make_page(jobs, args.model, args.config, args.report)
            page.launch(
                server_name=args.host,
                server_port=args.port,
                max_file_size=args.max_size * 10**6,
                theme=LOOK,
                ssr_mode=False,
                show_error=True,
            )
