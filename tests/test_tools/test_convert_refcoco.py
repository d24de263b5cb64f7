"""The published files of `refer`, converted."""

import json
import os
import pickle

import pytest
from fixtures_refcoco import FILES, SIZES, SPLITS, load_converter, write_refer

convert = load_converter()


@pytest.fixture
def root(tmp_path):
    return write_refer(tmp_path)


def refused(capsys, root, *arguments):
    """Run the tool, which must end with exit code 2 and leave nothing behind: its message."""
    with pytest.raises(SystemExit) as stop:
        convert.main([str(root / 'refer'), str(root / 'out'), *arguments])
    assert stop.value.code == 2
    assert not list(root.glob('out/*/*'))
    return capsys.readouterr().err.split('error: ')[-1]


def test_every_split_has_an_entry_for_each_sentence(root):
    convert.main([str(root / 'refer'), str(root / 'coco')])
    for name, splits in SPLITS.items():
        files = {path.name for path in (root / 'coco' / name).iterdir()}
        assert files == {f'instances_{name}_{split}.json' for split in splits}
        source = json.loads((root / 'refer' / name / 'instances.json').read_text())
        published = {annotation['id']: annotation for annotation in source['annotations']}
        for file in sorted(files):
            content = json.loads((root / 'coco' / name / file).read_text())
            images, annotations = content['images'], content['annotations']
            assert len(images) == len(annotations) == 4 * len(SIZES)
            assert [image['id'] for image in images] == [a['image_id'] for a in annotations]
            originals = [image['original_id'] for image in images]
            assert originals == sorted(originals)  # expressions of one image are neighbours
            for image, annotation in zip(images, annotations):
                truth = published[annotation['original_id']]
                assert truth['image_id'] == image['original_id']
                for key in ('bbox', 'segmentation', 'category_id', 'area', 'iscrowd'):
                    assert annotation[key] == truth[key]
                assert image['dataset_name'] == name
                assert image['file_name'] == f'COCO_train2014_{image["original_id"]:012d}.jpg'
            assert {image['caption'] for image in images} == {
                "Man's  HAT on the left ",
                'right café table',
            }


def test_latin1_is_undone_for_bytes_of_utf8_alone():
    assert convert.decode_text('caf\xc3\xa9') == 'café'
    assert convert.decode_text('café') == 'café'
    assert convert.decode_text('\u732b café') == '\u732b café'


def test_pickles_of_python_2_are_read(root):
    # Protocol 0, as Python 2 writes by default: S is a byte string.
    content = (
        b"(lp0\n(dp1\nS'ref_id'\nI0\nsS'ann_id'\nI0\nsS'image_id'\nI1000\nsS'split'\nS'val'\n"
        b"sS'sentences'\n(lp2\n(dp3\nS'sent_id'\nI5\nsS'sent'\nS'caf\\xc3\\xa9'\nsasa."
    )
    (root / 'refer' / 'refcoco' / FILES['refcoco']).write_bytes(content)
    convert.main([str(root / 'refer'), str(root / 'out'), '--names', 'refcoco'])
    content = json.loads((root / 'out' / 'refcoco' / 'instances_refcoco_val.json').read_text())
    assert [image['caption'] for image in content['images']] == ['café']


class Hostile:
    """Runs a command where it is unpickled."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.system, (f'touch {self.victim}',)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_hostile_pickles_do_not_run(root, capsys, protocol):
    victim = root / 'victim'
    file = root / 'refer' / 'refcoco+' / FILES['refcoco+']
    file.write_bytes(pickle.dumps([{'ref_id': Hostile(victim)}], protocol))
    message = refused(capsys, root, '--names', 'refcoco+')
    assert f'{file} was not read: it asks for ' in message and 'system' in message
    assert not victim.exists()
    pickle.loads(file.read_bytes())  # the same file is hostile indeed
    assert victim.exists()


def test_pickles_that_ask_for_other_objects_are_refused(root, capsys):
    (root / 'refer' / 'refcoco' / FILES['refcoco']).write_bytes(b'Pother\n.')
    assert "asks for the object 'other' outside the file" in refused(capsys, root)


@pytest.mark.parametrize('content', [b'', b'\x80\x02]q\x00(}', b'no pickle at all', b'\xff' * 40])
def test_broken_pickles_are_named(root, capsys, content):
    (root / 'refer' / 'refcoco' / FILES['refcoco']).write_bytes(content)
    assert 'refs(unc).p is not a complete pickle' in refused(capsys, root)


def change_refs(root, change):
    path = root / 'refer' / 'refcoco' / FILES['refcoco']
    refs = pickle.loads(path.read_bytes())
    change(refs)
    path.write_bytes(pickle.dumps(refs))


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda refs: refs.clear(), 'refs must be a list with entries'),
        (lambda refs: refs[3].pop('ann_id'), r'refs[3] lacks ann_id'),
        (lambda refs: refs[0].update(ann_id=77), 'names the annotation 77, which is not in'),
        (lambda refs: refs[0].update(image_id=77), 'names the image 77, which is not in'),
    ],
)
def test_bad_references_are_named(root, capsys, change, message):
    change_refs(root, change)
    error = refused(capsys, root)
    assert message in error and 'refs(unc).p' in error


def test_empty_sentences_are_counted_and_left_out(root, capsys):
    change_refs(root, lambda refs: refs[0]['sentences'][0].update(sent=' ', raw=''))
    convert.main([str(root / 'refer'), str(root / 'out'), '--names', 'refcoco'])
    assert '1 empty sentences of the split train are left out' in capsys.readouterr().out
    content = json.loads((root / 'out' / 'refcoco' / 'instances_refcoco_train.json').read_text())
    assert len(content['images']) == 4 * len(SIZES) - 1


def test_bad_instances_are_named(root, capsys):
    path = root / 'refer' / 'refcoco' / 'instances.json'
    content = json.loads(path.read_text())
    del content['annotations'][1]['bbox']
    path.write_text(json.dumps(content))
    assert 'instances.json: annotations[1] lacks bbox' in refused(capsys, root)
    path.write_text('[')
    assert 'instances.json is not valid JSON' in refused(capsys, root)
    path.unlink()
    assert 'instances.json not found' in refused(capsys, root)


def test_files_that_are_there_are_kept(root, capsys):
    arguments = [str(root / 'refer'), str(root / 'coco')]
    convert.main(arguments)
    path = root / 'coco' / 'refcoco+' / 'instances_refcoco+_val.json'
    path.write_text('mine')
    with pytest.raises(SystemExit):
        convert.main(arguments)
    assert 'already there; --overwrite replaces it' in capsys.readouterr().err
    assert path.read_text() == 'mine'
    convert.main([*arguments, '--overwrite'])
    assert path.read_text() != 'mine'
