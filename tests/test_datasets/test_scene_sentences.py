"""Every sentence is true of exactly what it means: read again by an independent reader."""

import re

import numpy as np
import pytest

from referformer.datasets.scene import COLOURS, Scene, Thing, colour_map, describe
from referformer.datasets.scene_sentences import (
    absent_sentence,
    draw_sentence,
    true_sentences,
    vocabulary,
)
from referformer.datasets.scene_words import HYPERNYMS, NOUNS, nouns, plural
from referformer.datasets.transforms.geometry import swap_sides

CATEGORIES = ('dog', 'person', 'bus', 'sheep', 'banana', 'pants')
ORDINALS = ('first', 'second', 'third', 'fourth', 'fifth')
NUMBERS = {'two': 2, 'both': 2, 'three': 3, 'four': 4, 'five': 5, 'six': 6}
WORDS = {  # what a reader does with a word: (key, whether the largest)
    'left|leftmost': ('x', False),
    'right|rightmost': ('x', True),
    'top|upper|highest': ('y', False),
    'bottom|lower|lowest': ('y', True),
    'large|largest|big|biggest|bigger|front|foreground|closest': ('area', True),
    'small|smallest|little|smaller|back|background': ('area', False),
}


def random_scene(rng: np.random.RandomState) -> Scene:
    things = []
    for _ in range(rng.randint(1, 7)):
        x, y = rng.rand(2) * 0.8
        w, h = rng.rand(2) * 0.19 + 0.01
        shares = rng.dirichlet(np.full(len(COLOURS), 0.1))
        things.append(
            Thing(
                CATEGORIES[rng.randint(len(CATEGORIES))],
                bool(rng.rand() < 0.1),
                int(1e5 * w * h) + 1,
                (x, y, x + w, y + h),
                dict(zip(COLOURS, shares)),
            )
        )
    complete = {'dog', 'zebra', *(c for c in CATEGORIES if rng.rand() < 0.8)}
    return Scene(tuple(things), frozenset(complete))


def names() -> dict[str, tuple[set[str], bool]]:
    """Every name: the categories it fits, and whether it means several."""
    found: dict[str, tuple[set[str], bool]] = {}
    wide = [(words, set(categories)) for words, categories in HYPERNYMS.items()]
    for words, categories in [*((nouns(c), {c}) for c in (*CATEGORIES, 'zebra')), *wide]:
        for noun in set(words):
            found.setdefault(plural(noun), (set(), True))[0].update(categories)
            found[noun] = (found.get(noun, (set(),))[0] | categories, plural(noun) == noun)
    return found


NAMES = names()


def read(text: str, scene: Scene) -> set[int]:
    """What a sentence means, word by word, or an error where it means nothing."""
    name = max((n for n in NAMES if re.search(rf'\b{n}\b', text)), key=len)
    categories, several = NAMES[name]
    before, after = re.split(rf'\b{name}\b', text, maxsplit=1)
    words = f'{before} {after}'.split()
    assert categories & scene.complete == categories, text
    found = {i for i, thing in enumerate(scene.things) if thing.category in categories}
    groups = any(scene.things[i].group for i in found)
    numbers = [NUMBERS[w] for w in words if w in NUMBERS]
    if numbers:
        assert several and not groups and len(found) == numbers[0], text
        return found
    ranks = [ORDINALS.index(w) for w in words if w in ORDINALS]
    if ranks:
        order = sorted(found, key=lambda i: sum(scene.things[i].box[::2]))
        return {(order if 'left' in words else order[::-1])[ranks[0]]}
    if set(words) & {'middle', 'centre', 'between'}:
        order = sorted(found, key=lambda i: sum(scene.things[i].box[::2]))
        return {order[len(order) // 2]}
    for colour in set(words) & set(COLOURS):
        kept = {i for i in found if scene.things[i].colours[colour] > 0.5}
        assert all(scene.things[i].colours[colour] < 0.2 for i in found - kept), text
        found = kept
    for pattern, (key, largest) in WORDS.items():
        if found and re.search(rf'\b({pattern})\b', ' '.join(words)):
            values = {i: value(scene.things[i], key) for i in found}
            found = {(max if largest else min)(found, key=values.get)}
    singular = not several and not {'all', 'every'} & set(words)
    if singular and found:
        assert len(found) == 1 and not groups, text
    return found


def value(thing: Thing, key: str) -> float:
    x1, y1, x2, y2 = thing.box
    return {'x': x1 + x2, 'y': y1 + y2, 'area': thing.area}[key]


@pytest.mark.parametrize('seed', range(20))
def test_every_sentence_means_exactly_its_things(seed):
    rng = np.random.RandomState(seed)
    for _ in range(50):
        scene = random_scene(rng)
        for sentence in true_sentences(scene, rng):
            assert read(sentence.text, scene) == set(sentence.things), sentence
            assert not set(sentence.control) & set(sentence.things)


def test_sentences_about_what_is_absent_mean_nothing():
    rng = np.random.RandomState(0)
    texts = set()
    for _ in range(500):
        scene = random_scene(rng)
        sentence = absent_sentence(scene, rng)
        if sentence is not None:
            assert sentence.things == ()
            assert read(sentence.text, scene) == set(), sentence
            texts.add(sentence.text)
    assert len(texts) > 20


def test_a_group_is_never_told_apart_or_counted():
    box = (0.1, 0.1, 0.3, 0.3)
    group = Thing('dog', True, 100, box, {})
    single = Thing('dog', False, 900, (0.7, 0.5, 0.9, 0.9), {})
    scene = Scene((group, single), frozenset({'dog'}))
    rng = np.random.RandomState(0)
    for _ in range(50):
        kinds = {s.kind for s in true_sentences(scene, rng) if 'animal' not in s.text}
        assert kinds == {'all'}


def test_an_incomplete_category_is_not_spoken_of():
    thing = Thing('dog', False, 100, (0.1, 0.1, 0.3, 0.3), {})
    scene = Scene((thing,), frozenset({'cat'}))
    assert draw_sentence(scene, 0.0, np.random.RandomState(0)) is None


def test_colours_are_those_of_the_pixels():
    shown = {'red': (220, 20, 30), 'green': (30, 180, 40), 'blue': (30, 60, 220)}
    shown |= {'white': (250, 250, 250), 'black': (10, 10, 10), 'yellow': (240, 230, 30)}
    shown |= {'orange': (250, 140, 20), 'grey': (128, 128, 128), 'purple': (130, 40, 200)}
    image = np.uint8(list(shown.values()))[None]
    assert [COLOURS[i] for i in colour_map(image)[0]] == list(shown)


def test_small_rests_are_left_out_and_make_their_category_unsure():
    image = np.zeros((40, 40, 3), np.uint8)
    masks = np.zeros((2, 40, 40), bool)
    masks[0, 5:25, 10:30] = masks[1, :2, :2] = True
    scene, kept = describe(image, masks, ['dog', 'cat'], [False] * 2, ['dog', 'cat'])
    assert kept == [0] and scene.complete == {'dog'}
    assert scene.things[0].box == (0.25, 0.125, 0.75, 0.625) and scene.things[0].area == 400
    assert scene.things[0].colour == 'black'


def test_a_flip_swaps_what_left_and_right_mean():
    rng = np.random.RandomState(1)
    checked = 0
    for _ in range(200):
        scene = random_scene(rng)
        mirrored = scene._replace(
            things=tuple(
                t._replace(box=(1 - t.box[2], t.box[1], 1 - t.box[0], t.box[3]))
                for t in scene.things
            )
        )
        for sentence in true_sentences(scene, rng):
            swapped = swap_sides(sentence.text)
            checked += swapped != sentence.text
            assert read(swapped, mirrored) == set(sentence.things)
    assert checked > 50


def test_names_are_of_one_category_each():
    owners: dict[str, str] = {}
    for category, words in NOUNS.items():
        for word in words:
            assert owners.setdefault(word, category) == category


def test_plurals():
    assert plural('person') == 'people' and plural('bus') == 'buses'
    assert plural('puppy or dog') == 'puppies or dogs'
    assert plural('man, woman or other person') == 'men, women or other people'


def test_the_vocabulary_has_every_word_that_is_said():
    known = set(vocabulary([*CATEGORIES, 'zebra']))
    rng = np.random.RandomState(3)
    for _ in range(300):
        scene = random_scene(rng)
        for sentence in [*true_sentences(scene, rng), absent_sentence(scene, rng)]:
            if sentence:
                assert set(re.findall(r"[a-z]+(?:['-][a-z]+)*", sentence.text)) <= known, (
                    sentence.text
                )
