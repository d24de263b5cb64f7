"""Gather a trained model in a folder that needs nothing else: config, weights, tokenizer, logs.

%(prog)s WORK_DIR... OUT takes the weights of the last WORK_DIR; the stages before it are
there for the log and the curve.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from .. import zoo
from ..cli import user_errors
from ..engine.checkpoint import check_keys, read_checkpoint, state_dict_of
from ..engine.launch import read_tokenizer
from ..engine.training_log import logs_of, read_rows
from ..files import project_file
from ..registry import MODELS

_PLOT = project_file('tools/analysis_tools/plot_curve.py')
_README = """\
# {title}

Loaded by its {what}; nothing else is needed:

```bash
referformer infer VIDEO "a sentence" --model {name} --out results
```

```python
from referformer.apis import init_model

model = init_model('{name}')
```

Its training: `log.jsonl`, `curve.png`.
"""
_TOKENIZER = '{{ fileDirname }}/tokenizer'  # MMEngine fills in the folder of the config


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR', help='of train.py')
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to make')
    parser.add_argument(
        '--command', action='append', default=[], help='how it was made, for the README; repeat'
    )
    parser.add_argument(
        '--half', action='store_true', help='weights in float16: half the size of the file'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace what OUT holds')
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Check, gather beside OUT, and rename."""
    args = parse_args(argv)
    if args.out.exists() and not args.overwrite:
        raise FileExistsError(f'{args.out} is already there; name another, or add --overwrite')
    config, checkpoint = find_training(args.work_dirs[-1])
    if 'text_encoder' not in config.model:
        raise ValueError(
            f'{config.filename} trains a {config.model.type}, which reads no sentences: '
            'the last WORK_DIR must be that of a whole model'
        )
    logs = [log for work_dir in args.work_dirs for log in logs_of(work_dir)]
    weights = state_dict_of(read_checkpoint(checkpoint), checkpoint)
    init_default_scope(config.get('default_scope', 'referformer'))
    model = MODELS.build(config.model)
    check_keys(model.state_dict(), weights, checkpoint)
    read_tokenizer(model)

    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.publish-', dir=args.out.parent) as folder:
        made = Path(folder, 'model')
        tokenizer = Path(config.model.text_encoder.get('tokenizer') or '')
        if tokenizer.name and tokenizer.is_dir():
            shutil.copytree(tokenizer, made / 'tokenizer')
        else:  # a name of the Hub
            model.text_encoder.tokenizer.save_pretrained(made / 'tokenizer')
        for file in made.glob('tokenizer/*.json'):  # else a line for each of thousands of words
            content = json.loads(file.read_text(encoding='utf-8'))
            file.write_text(json.dumps(content, ensure_ascii=False), encoding='utf-8')
        tensors = {name: value.contiguous() for name, value in weights.items()}
        if args.half:
            tensors = {n: v.half() if v.is_floating_point() else v for n, v in tensors.items()}
        (made / 'model.safetensors').write_bytes(safetensors.torch.save(tensors))
        write_config(config, model, made / 'config.py')
        rows = (row for log in logs for row in read_rows(log))
        (made / 'log.jsonl').write_text(''.join(f'{json.dumps(row)}\n' for row in rows))
        subprocess.run(
            [sys.executable, _PLOT, *args.work_dirs, made / 'curve.png'],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (made / 'README.md').write_text(readme(args.out, args.command))
        if args.out.exists():
            args.out.rename(Path(folder, 'replaced'))
        made.rename(args.out)
    size = (args.out / 'model.safetensors').stat().st_size / 1e6
    print(f'{args.out}: {len(weights)} tensors of {checkpoint}, {size:.1f} MB')


def find_training(work_dir: Path) -> tuple[Config, Path]:
    """Config and last checkpoint of a training.

    Raises:
        FileNotFoundError: One of them is not there.
    """
    pointer = work_dir / 'last_checkpoint'
    configs = sorted(work_dir.glob('*.py'))
    if not pointer.is_file() or len(configs) != 1:
        raise FileNotFoundError(
            f'{work_dir} is not the work dir of a finished train.py: it should hold '
            f'last_checkpoint and one config, and has {len(configs)} configs'
        )
    return Config.fromfile(configs[0]), work_dir / Path(pointer.read_text().strip()).name


def write_config(config: Config, model: nn.Module, path: Path) -> None:
    """The whole config in one file, with the tokenizer beside it, without what belongs to the place
    it was trained at or asks the Hub."""
    config = Config(config.to_dict())
    for part in ('backbone', 'text_encoder'):
        if config.model[part].pop('name', None):
            config.model[part].update(model=getattr(model, part).architecture, pretrained=None)
    config.model.text_encoder.tokenizer = _TOKENIZER
    config.model.backbone.init_cfg = config.model.text_encoder.pretrained = None
    for key in ('load_from', 'resume', 'work_dir', 'launcher', 'model_wrapper_cfg'):
        config.pop(key, None)
    config.dump(path)


def readme(out: Path, commands: Sequence[str]) -> str:
    """What the folder is, how it is used, and how it was made."""
    shipped = out.resolve().parent == Path(zoo.__file__).parent
    name = out.name if shipped else out.as_posix()
    text = _README.format(title=out.name, what='name' if shipped else 'folder', name=name)
    if commands:
        text += '\n'.join(['', 'Made by:', '', '```bash', *commands, '```', ''])
    return text
