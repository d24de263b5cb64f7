"""model-index.yml and its metafiles: complete, true to configs/README.md, read by MMEngine."""

import re

import pytest
import yaml
from mmengine.config import Config
from mmengine.infer import BaseInferencer
from toy_project import REPO

import referformer.registry  # noqa: F401  makes the package one of MMEngine's scopes
from referformer.apis import init_model
from referformer.commands import get_weights
from referformer.commands import list as list_command
from referformer.zoo import list_models, package_root, published_models

CONFIGS = REPO / 'configs'
LEAVES = [*CONFIGS.glob('*.py'), *CONFIGS.glob('ablations/*.py')]
MODELS = published_models()


def readme_rows():
    """Cells of each table row of configs/README.md that names a config."""
    for line in (CONFIGS / 'README.md').read_text().splitlines():
        link = re.search(r'\]\((referformer_[^)]+)\.py\)', line)
        if link and line.startswith('|'):
            yield link[1], [cell.strip() for cell in line.strip('|').split('|')]


def test_every_leaf_config_has_its_entry_and_no_other():
    whole = {model.name: model.config for model in MODELS.values() if not model.is_backbone}
    assert whole == {path.stem: path for path in LEAVES}
    assert package_root() == REPO
    for model in MODELS.values():
        assert model.config.is_file()


def test_published_figures_are_those_of_the_readme():
    rows = dict(readme_rows())
    assert len(rows) > 40
    for name, cells in rows.items():
        published = [c for c in cells[1:3] if not c.startswith(('[', '`'))]
        # '62.6 (as printed; ...)' counts as 62.6
        numbers = re.findall(r'\d+\.\d', ' '.join(cell.split('(')[0] for cell in published))
        entry = MODELS[name].results
        if 'refcoco' in name:  # boxes of three datasets, then masks: here by dataset
            numbers = [n for pair in zip(numbers[:3], numbers[3:]) for n in pair]
        found = [str(value) for result in entry for value in result['Metrics'].values()]
        assert found == numbers, name


def test_the_25_published_checkpoints_are_each_there_once():
    whole = [m for m in MODELS.values() if m.weights and not m.is_backbone]
    form = re.compile(r'https://drive.google.com/file/d/([\w-]{33})/view')
    ids = {form.fullmatch(model.weights)[1] for model in whole}
    assert len(ids) == 25 and len(whole) == 36  # seven serve two benchmarks, four SAM 2
    for model in whole:
        if model.file != model.name:
            tested, trained = model.name.rsplit('_', 1)[1], model.file.rsplit('_', 1)[1]
            assert (tested, trained) in {
                ('davis17', 'ytvos'),
                ('jhmdb', 'a2d'),
                ('sam2', 'ytvos'),
            }
            assert MODELS[model.file].weights == model.weights


def test_the_ids_are_those_of_the_official_repository(shared_dir):
    text = (shared_dir / 'WEIGHTS.md').read_text()
    listed = set(re.findall(r'(?<=\| )1[\w-]{32}(?= \|)', text))
    ours = {m.weights.split('/')[-2] for m in MODELS.values() if m.weights and 'drive' in m.weights}
    assert ours == listed


def test_backbones_are_the_files_that_the_configs_name():
    for model in (m for m in MODELS.values() if m.is_backbone):
        comment = model.config.read_text().splitlines()[0]
        file = re.search(r'\S+\.pth', comment)[0]
        expected = file.split('-')[0] if model.weights.startswith('torchvision') else file
        assert model.weights.endswith(f'/{expected}')
        start = Config.fromfile(model.config).model.backbone.init_cfg.checkpoint
        assert start == f'checkpoints/{model.name}.pth'


def test_mmengines_inferencer_reads_the_same():
    names = BaseInferencer.list_models('referformer')
    assert set(names) == set(MODELS)

    class Inferencer(BaseInferencer):
        scope = 'referformer'

        def __init__(self):
            pass

        def _init_pipeline(self, cfg):
            """Nothing."""

        def visualize(self, *_, **__):
            """Nothing."""

        def postprocess(self, *_, **__):
            """Nothing."""

    config, weights = Inferencer()._load_model_from_metafile('referformer_swin-l_ytvos')
    assert weights == MODELS['referformer_swin-l_ytvos'].weights
    assert config.model == Config.fromfile(CONFIGS / 'referformer_swin-l_ytvos.py').model


def test_metafiles_have_the_form_of_openmmlab():
    index = yaml.safe_load((REPO / 'model-index.yml').read_text())
    parts = [yaml.safe_load((REPO / part).read_text()) for part in index['Import']]
    collections = {c['Name'] for part in parts for c in part.get('Collections', ())}
    for entry in (entry for part in parts for entry in part['Models']):
        assert entry['In Collection'] in collections
        assert {'Name', 'Config', 'Metadata'} <= set(entry)
        assert set(entry) <= {'Name', 'Config', 'Metadata', 'In Collection', 'Results', 'Weights'}
        for result in entry.get('Results', ()):
            assert set(result) == {'Task', 'Dataset', 'Metrics'}


def test_lists_name_what_can_be_used(capsys):
    names = list_models()
    assert 'referformer_vswin-micro_synthetic' in names and 'referformer_vswin-b_ytvos' in names
    assert 'referformer_r50_mevis' not in names and 'r50_imagenet' not in names
    assert len(list_models('*_davis17')) == 3
    list_command.main(['*r50_*'])
    text = capsys.readouterr().out
    assert re.search(r'referformer_r50_ytvos +to fetch +Ref-YouTube-VOS J&F 55\.6', text)
    assert 'mevis' not in text
    get_weights.main(['list'])
    assert 'vswin-t_kinetics' in capsys.readouterr().out


@pytest.mark.parametrize(
    'name, message',
    [
        ('referformer_r50_ytvo', 'no model has this name; similar: referformer_r50_ytvos'),
        ('referformer_r50_mevis', 'no weights of referformer_r50_mevis were published'),
    ],
)
def test_names_without_weights_are_explained(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('referformer.apis.settle_tokenizer', lambda config: None)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        init_model(name)
