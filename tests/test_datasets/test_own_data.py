"""Own videos, masks and sentences to the layout of Ref-YouTube-VOS."""

import numpy as np
import pytest
from own_data import FORMS, SIZE, VIDEOS, stems, write_own_data, write_palette, write_table
from PIL import Image

from referformer.datasets import RVOSDataset
from referformer.datasets.own_data import make_dataset, read_sentences


@pytest.fixture
def own(tmp_path):
    """A folder with videos, palette masks and sentences, and the true label maps."""
    root, truth = write_own_data(tmp_path)
    write_palette(root / 'masks', truth)
    return root, truth


def make(root, **options):
    options = {'num_workers': 1, 'write_config': lambda folder, with_valid: None, **options}
    places = [root / name for name in ('sentences.csv', 'videos', 'masks', 'mine')]
    return make_dataset(*places, **options)


def refused(root, **options):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        make(root, **options)
    assert not (root / 'mine').exists() and not list(root.glob('.mine*'))
    return str(error.value)


def read_maps(folder):
    images = [Image.open(path) for path in sorted(folder.iterdir())]
    assert {image.mode for image in images} == {'P'}
    return np.stack([np.asarray(image) for image in images])


@pytest.mark.parametrize('form', FORMS)
def test_every_form_gives_the_same_label_maps(tmp_path, form):
    root, truth = write_own_data(tmp_path)
    (root / 'masks').mkdir()
    write, names = FORMS[form]
    write(root / 'masks', truth)
    rows = [(v, name, f'the {o} of {v}') for v in VIDEOS for name, o in zip(names, 'ab')]
    write_table(root, rows)
    counts = make(root, valid=0.4)
    assert {split: dict(number) for split, number in counts.items()} == {
        'train': {'videos': 2, 'frames': 8, 'objects': 4, 'sentences': 4, 'shared': 0},
        'valid': {'videos': 1, 'frames': 4, 'objects': 2, 'sentences': 2, 'shared': 0},
    }
    found = {path.name: path for path in root.glob('mine/*/Annotations/*')}
    assert set(found) == set(VIDEOS)
    for video, folder in found.items():
        assert [path.stem for path in sorted(folder.iterdir())] == stems(video, 4)
        np.testing.assert_array_equal(read_maps(folder), truth[video])


def test_frames_are_copied_as_they_are_or_decoded(own):
    root, _ = own
    make(root)
    [copy] = root.glob('mine/*/JPEGImages/beach/00005.jpg')
    assert copy.read_bytes() == (root / 'videos/beach/00005.jpg').read_bytes()
    frames = sorted(root.glob('mine/*/JPEGImages/park/*.jpg'))
    assert [frame.stem for frame in frames] == stems('park', 4)
    assert {Image.open(frame).size for frame in frames} == {SIZE[::-1]}


def test_what_is_written_is_what_the_reader_of_training_reads(own):
    root, _ = own
    rows = [
        ('beach', '2', 'A cat, "left"', 'cat', 'valid'),
        ('city.mp4', '1', 'Le chien éveillé', '', ''),
    ]
    (root / 'videos/park.mp4').rename(root / 'videos/city.mp4')
    (root / 'videos/city').rename(root / 'videos/other')
    (root / 'masks/park').rename(root / 'masks/old')
    (root / 'masks/city').rename(root / 'masks/new')
    (root / 'masks/old').rename(root / 'masks/city')
    header = ('Video', 'object', 'sentence', 'category', 'split')
    write_table(root, rows, header, delimiter=';')
    make(root)
    train, valid = (RVOSDataset(root / 'mine', split=split) for split in ('train', 'valid'))
    item = train.get_data_info(0)
    assert (item['video_id'], item['text'], item['obj_id']) == ('city', 'le chien éveillé', 1)
    item = valid.get_data_info(0)
    assert (item['video_id'], item['text'], item['obj_id']) == ('beach', 'a cat, "left"', 2)
    assert (train.metainfo['classes'], valid.metainfo['classes']) == (('object',), ('cat',))


def test_one_black_and_white_object_may_have_any_name(own):
    root, truth = own
    for path in (root / 'masks/beach').iterdir():
        values = np.asarray(Image.open(path))
        Image.fromarray(np.uint8(255) * (values == 2)).save(path)
    write_table(root, [('beach', 'my dog', 'a dog')])
    make(root)
    np.testing.assert_array_equal(
        read_maps(root / 'mine/train/Annotations/beach'), truth['beach'] == 2
    )


def test_the_smaller_one_of_two_objects_keeps_shared_pixels(own):
    root, _ = own
    for number, (left, right) in {'a': (0, 20), 'b': (15, 25)}.items():
        mask = np.zeros(SIZE, np.uint8)
        mask[:10, left:right] = 255
        (root / 'masks/city' / number).mkdir()
        for name in stems('city', 4):
            (root / 'masks/city' / f'{name}.png').unlink(missing_ok=True)
            Image.fromarray(mask).save(root / 'masks/city' / number / f'{name}.png')
    write_table(root, [('city', 'b', 'small'), ('city', 'a', 'large')])
    assert make(root)['train']['shared'] == 4 * 50
    maps = read_maps(root / 'mine/train/Annotations/city')
    assert (maps[:, :10, :15] == 2).all() and (maps[:, :10, 15:25] == 1).all()


def test_all_that_is_wrong_with_the_data_is_in_one_message(own):
    root, _ = own
    (root / 'masks/beach/00010.png').unlink()
    (root / 'masks/city/00000.png').write_bytes(b'no image')
    image = Image.open(root / 'masks/city/00005.png')
    image.resize((32, 24), Image.Resampling.NEAREST).save(root / 'masks/city/00005.png')
    for name in ('cut', 'absent', 'bare'):
        (root / 'videos' / name).mkdir()
        for t in range(2):
            Image.new('RGB', SIZE[::-1]).save(root / 'videos' / name / f'{t}.jpg')
    path = root / 'videos/cut/1.jpg'
    path.write_bytes(path.read_bytes()[:200])
    for name in ('cut', 'absent'):
        (root / 'masks' / name).mkdir()
        for t in range(2):
            Image.fromarray(np.full(SIZE, 3, np.uint8)).save(root / f'masks/{name}/{t}.png')
    (root / 'masks/park/00003.png').unlink()
    (root / 'masks/park/00009.png').unlink(missing_ok=True)
    videos = ('beach', 'city', 'park', 'cut', 'absent', 'bare', 'nowhere')
    write_table(root, [(video, '1', f'of {video}') for video in videos])
    message = refused(root)
    for text in (
        'beach: frames without masks: 00010',
        'city: ' + str(root / 'masks/city/00000.png') + ' cannot be read',
        'city: the masks of frame 1 have height and width (24, 32), the frame (48, 64)',
        'park: there are 4 frames, but masks for 3',
        'cut: cannot read the frame',
        'absent: no mask has the object 1 (line 6); there are: 3',
        'bare: no masks: ',
        f'nowhere (line 8): {root / "videos"} has nothing of that name',
    ):
        assert text in message, text
    assert len(message.splitlines()) == 9


def test_grey_and_coloured_masks_are_refused(own):
    root, _ = own
    values = np.tile(np.linspace(0, 255, SIZE[1]).astype(np.uint8), (SIZE[0], 1))
    Image.fromarray(values).save(root / 'masks/beach/00000.png')
    Image.new('RGB', SIZE[::-1], 'red').save(root / 'masks/city/00000.png')
    message = refused(root)
    assert 'beach/00000.png has grey values' in message
    assert 'city/00000.png is of mode RGB; masks are palette images' in message


def test_several_objects_do_not_fit_black_and_white(own):
    root, _ = own
    for path in (root / 'masks/park').iterdir():
        Image.fromarray(np.full(SIZE, 255, np.uint8)).save(path)
    message = refused(root)
    assert f'holds one object, but the sentences name 1, 2: give each a folder {root}' in message
    assert 'park: 1 frames more like these' in message


@pytest.mark.parametrize(
    'header, rows, texts',
    [
        (('video', 'sentence'), [('a', 'b')], ['columns video, sentence; it needs video, object']),
        (('video', 'object', 'sentence', 'colour'), [], ['and may have category, kind, split']),
        (('video', 'object', 'sentence'), [], ['it has no sentence']),
        (
            ('video', 'object', 'sentence', 'split'),
            [
                ('a', '1', '', ''),
                ('a', '1', 'x', 'test'),
                ('a', '1', 'X ', ''),
                ('../a', '1', 'y', ''),
                ('a', '1', 'no, quotes', 'train', ''),
            ],
            [
                'line 2: sentence is empty',
                "line 3: split is 'test', not train or valid",
                'line 4 says what line 3 does',
                "line 5: the video '../a' must be a name",
                "line 6 does not have 4 fields: quote what has ','",
            ],
        ),
    ],
)
def test_lines_that_are_wrong_are_listed(tmp_path, header, rows, texts):
    write_table(tmp_path, rows, header)
    with pytest.raises(ValueError) as error:
        read_sentences(tmp_path / 'sentences.csv')
    assert all(text in str(error.value) for text in texts), str(error.value)


def test_a_table_of_another_encoding_names_the_remedy(tmp_path):
    path = tmp_path / 'sentences.csv'
    path.write_bytes('video,object,sentence\na,1,éveillé\n'.encode('latin-1'))
    with pytest.raises(ValueError, match=r'not UTF-8.*CSV UTF-8'):
        read_sentences(path)


@pytest.mark.parametrize(
    'file, content, text',
    [
        ('beach.json', '{"videos": [{"id": 1}]}', "lacks 'categories'"),
        ('beach.json', '{"videos": ', 'Expecting value'),
        (
            'beach.json',
            '{"categories": [], "videos": [{"id": 1, "length": 4, "height": 48, "width": 64}], '
            '"annotations": [{"id": 8, "video_id": 1, "category_id": 1, "segmentations": [null]}]}',
            'annotation 8 has 1 segmentations',
        ),
        ('beach.json', '[{"data": {"video": "a.mp4"}}]', 'boxes, not masks'),
        ('beach.xml', '<annotations', 'no export of'),
        ('beach.xml', '<annotations><image/></annotations>', 'CVAT for video 1.1'),
    ],
)
def test_broken_exports_are_named(own, file, content, text):
    root, _ = own
    (root / 'masks/beach').rename(root / 'other')
    (root / 'masks' / file).write_text(content)
    message = refused(root)
    assert f'beach: {root / "masks" / file} is no export of' in message and text in message


def test_a_file_of_other_videos_is_not_taken(own):
    root, truth = own
    FORMS['youtube-vis'][0](root / 'json', truth)
    (root / 'json/instances.json').rename(root / 'all.json')
    write_table(root, [('beach', 'dog', 'a'), ('other', 'dog', 'b')])
    (root / 'videos/city').rename(root / 'videos/other')
    (root / 'masks').rename(root / 'earlier')
    (root / 'all.json').rename(root / 'masks')
    message = refused(root)
    assert 'other: ' in message and 'has no masks of it, but of: beach, city, park' in message


def test_more_objects_than_a_label_map_holds_are_refused(own):
    root, _ = own
    write_table(root, [('beach', f'o{i}', 'x') for i in range(256)])
    assert 'beach: 256 objects, but label maps hold 255' in refused(root)


def test_a_folder_may_hold_the_export_of_one_video(own):
    root, truth = own
    for path in (root / 'masks/city').iterdir():
        path.unlink()
    FORMS['label-studio'][0](root / 'masks/city', {'frames': truth['city']})
    (root / 'masks/city/labels.xml').write_text('<View/>')
    (root / 'masks/city/frames').mkdir()
    write_table(root, [('city', 'cat', 'a cat')])
    make(root)
    maps = read_maps(root / 'mine/train/Annotations/city')
    np.testing.assert_array_equal(maps, truth['city'] == 2)


def test_nothing_is_replaced_or_half_written(own, monkeypatch):
    root, _ = own
    with pytest.raises(KeyboardInterrupt):
        make(root, write_config=lambda folder, with_valid: (_ for _ in ()).throw(KeyboardInterrupt))
    assert not (root / 'mine').exists() and not list(root.glob('.mine*'))
    make(root)
    before = sorted((root / 'mine').rglob('*'))
    with pytest.raises(FileExistsError, match='already exists and is not touched'):
        make(root)
    assert sorted((root / 'mine').rglob('*')) == before


@pytest.mark.parametrize('share, valid', [(0, 0), (0.01, 1), (0.5, 2), (0.99, 2)])
def test_the_share_of_valid_leaves_something_on_both_sides(own, share, valid):
    root, _ = own
    counts = make(root, valid=share)
    assert counts.get('valid', {'videos': 0})['videos'] == valid
    assert counts['train']['videos'] == len(VIDEOS) - valid
