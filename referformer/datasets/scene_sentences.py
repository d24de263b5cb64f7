"""Sentences about a picture, each true of exactly the things it means.

What cannot be decided (a category with objects that have no mask, two things almost equally far to
the left) is not said.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .scene import COLOURS, Scene, Thing
from .scene_words import HYPERNYMS, OTHERS, UNCOLOURED, is_plural, nouns, plural

_APART = 0.08  # of the picture: nearer centres are not compared
_LARGER = 1.7  # times the area: nearer sizes are not compared
_ORDINALS = ('first', 'second', 'third', 'fourth', 'fifth')
_NUMBERS = {2: 'two', 3: 'three', 4: 'four', 5: 'five', 6: 'six'}
_PLACES = {  # of the extreme thing of a category along an axis
    'left': ('{} on the left', 'left {}', 'leftmost {}', '{} on the left side', '{} to the left'),
    'right': (
        '{} on the right',
        'right {}',
        'rightmost {}',
        '{} on the right side',
        '{} to the right',
    ),
    'top': ('{} at the top', 'top {}', 'upper {}', 'highest {}'),
    'bottom': ('{} at the bottom', 'bottom {}', 'lower {}', 'lowest {}'),
    'middle': ('{} in the middle', 'middle {}', '{} in the centre', '{} between the others'),
    'large': ('large {}', 'largest {}', 'big {}', 'biggest {}', 'bigger {}'),
    'small': ('small {}', 'smallest {}', 'little {}', 'smaller {}'),
    'front': ('{} in front', '{} in the foreground', 'closest {}'),
    'back': ('{} in the background', '{} in the back', '{} at the back'),
}
_MANY = ('all {}', 'the {}', '{}', 'every {}')  # the last one of a single noun
_OPPOSITE = {'left': 'right', 'right': 'left', 'top': 'bottom', 'bottom': 'top'}


# How often kinds are drawn where they are possible: few pictures have two things of a category.
_WEIGHTS = {
    'unique': 2.0,
    'place': 3.0,
    'size': 2.0,
    'colour': 2.0,
    'ordinal': 1.5,
    'all': 0.5,
    'count': 0.5,
}


class Sentence(NamedTuple):
    """A sentence and what it means."""

    text: str
    things: tuple[int, ...]  # indices in the scene; none: there is no such thing
    kind: str  # unique, place, ordinal, size, colour, all, count, absent
    control: tuple[int, ...] = ()  # things of the same category that it does not mean


def draw_sentence(
    scene: Scene, absent: float, rng: np.random.RandomState, kinds: Sequence[str] | None = None
) -> Sentence | None:
    """One sentence about a scene, of a kind drawn by its weight; None where nothing can be said.

    Args:
        scene: The picture.
        absent: Probability of a sentence about what is not there.
        rng: Source of chance.
        kinds: Only these; by default all.
    """
    if rng.rand() < absent and (kinds is None or 'absent' in kinds):
        return absent_sentence(scene, rng)
    found: dict[str, list[Sentence]] = {}
    for sentence in true_sentences(scene, rng):
        if kinds is None or sentence.kind in kinds:
            found.setdefault(sentence.kind, []).append(sentence)
    if not found:
        return None
    names = sorted(found)
    weights = np.array([_WEIGHTS[name] for name in names])
    sentences = found[names[rng.choice(len(names), p=weights / weights.sum())]]
    return sentences[rng.randint(len(sentences))]


def true_sentences(scene: Scene, rng: np.random.RandomState) -> Iterator[Sentence]:
    """Every meaning that a sentence can have in a scene, each in words drawn at random."""
    for category in sorted({thing.category for thing in scene.things} & scene.complete):
        members = scene.of(category)
        things = [scene.things[i] for i in members]
        if any(thing.group for thing in things):
            yield from _about_all(category, members, things, rng)
        elif len(members) == 1:
            yield from _about_one(category, members[0], scene, rng)
        else:
            yield from _about_all(category, members, things, rng)
            yield from _about_some(category, members, things, rng)
    yield from _about_hypernyms(scene, rng)


def absent_sentence(scene: Scene, rng: np.random.RandomState) -> Sentence | None:
    """A sentence about a category that is surely not there; None where nothing is sure."""
    there = {thing.category for thing in scene.things}
    there |= {name for known in there for name in OTHERS.get(known, ())}
    missing = sorted(scene.complete - there)
    if not missing:
        return None
    category = missing[rng.randint(len(missing))]
    noun = _pick(nouns(category), rng)
    if rng.rand() < 0.25:  # seldom, or these words would mean that nothing is there
        forms = [form for place in ('left', 'right', 'large', 'small') for form in _PLACES[place]]
        return Sentence(_article(_pick(forms, rng).format(noun), rng), (), 'absent')
    return Sentence(_article(noun, rng), (), 'absent')


def _about_one(
    category: str, index: int, scene: Scene, rng: np.random.RandomState
) -> Iterator[Sentence]:
    """A thing that is alone in its category, by name, and by name and what else is true of it."""
    noun = _pick(nouns(category), rng)
    yield Sentence(_article(noun, rng), (index,), 'unique')
    thing = scene.things[index]
    extra = []
    if thing.colour and category not in UNCOLOURED:
        extra.append(f'{thing.colour} {noun}')
    x, y = thing.centre
    for value, low, high in ((x, 'left', 'right'), (y, 'top', 'bottom')):
        if value < 0.3:
            extra.append(_PLACES[low][0].format(noun))
        elif value > 0.7:
            extra.append(_PLACES[high][0].format(noun))
    if extra:
        yield Sentence(_article(_pick(extra, rng), rng), (index,), 'unique')


def _about_all(
    category: str, members: list[int], things: list[Thing], rng: np.random.RandomState
) -> Iterator[Sentence]:
    """All things of a category: "all dogs", "the two dogs"."""
    noun = _pick(nouns(category), rng)
    form = _pick(_MANY, rng)
    word = noun if form.startswith('every') else plural(noun)
    yield Sentence(form.format(word), tuple(members), 'all')
    if any(thing.group for thing in things) or len(members) not in _NUMBERS:
        return
    number = _NUMBERS[len(members)]
    forms = ['the {} {}', 'all {} {}', '{} {}']
    text = _pick(forms, rng).format(number, plural(noun))
    if number == 'two' and rng.rand() < 0.3:
        text = f'both {plural(noun)}'
    yield Sentence(text.replace('all two', 'the two'), tuple(members), 'count')


def _about_some(
    category: str, members: list[int], things: list[Thing], rng: np.random.RandomState
) -> Iterator[Sentence]:
    """One of several things of a category, told from the others."""

    def say(form: str, position: int, kind: str) -> Sentence:
        noun = _pick(nouns(category), rng)
        others = tuple(m for i, m in enumerate(members) if i != position)
        return Sentence(
            _article(form.format(noun), rng), (members[position],), kind, (_pick(others, rng),)
        )

    for place, position in _extremes(things):
        kind = 'size' if place in ('large', 'small') else 'place'
        yield say(_pick(_PLACES[place], rng), position, kind)
    by_x = sorted(range(len(things)), key=lambda i: things[i].centre[0])
    xs = [things[i].centre[0] for i in by_x]
    if 3 <= len(things) <= 5 and np.diff(xs).min() >= _APART:
        for rank, position in enumerate(by_x):
            yield say(f'{_ORDINALS[rank]} {{}} from the left', position, 'ordinal')
            rank = len(by_x) - 1 - rank
            yield say(f'{_ORDINALS[rank]} {{}} from the right', position, 'ordinal')
        if len(things) % 2:
            yield say(_pick(_PLACES['middle'], rng), by_x[len(by_x) // 2], 'place')
    if category in UNCOLOURED:
        return
    for colour in COLOURS:
        own = [i for i, thing in enumerate(things) if thing.colour == colour]
        if len(own) == 1 and sum(thing.may_be(colour) for thing in things) == 1:
            yield say(f'{colour} {{}}', own[0], 'colour')


def _extremes(things: list[Thing]) -> Iterator[tuple[str, int]]:
    """Key of ``_PLACES`` and index of what is clearly the first or last one of several."""
    values = {
        ('left', 'right', _APART): [thing.centre[0] for thing in things],
        ('top', 'bottom', 2 * _APART): [thing.centre[1] for thing in things],
        ('small', 'large', np.log(_LARGER)): [np.log(thing.area) for thing in things],
    }
    for (low, high, apart), value in values.items():
        order = np.argsort(value)
        if value[order[1]] - value[order[0]] >= apart:
            yield low, int(order[0])
        if value[order[-1]] - value[order[-2]] >= apart:
            yield high, int(order[-1])
    if len(things) == 2:  # much smaller, and standing higher up: further away
        near, far = np.argsort([-thing.area for thing in things])
        if (
            things[near].area > 4 * things[far].area
            and things[near].box[3] > things[far].box[3] + _APART
        ):
            yield 'front', int(near)
            yield 'back', int(far)


def _about_hypernyms(scene: Scene, rng: np.random.RandomState) -> Iterator[Sentence]:
    """The only thing of a wider class: "the animal"."""
    for noun_group, categories in HYPERNYMS.items():
        if not set(categories) <= scene.complete:
            continue
        members = [i for i, thing in enumerate(scene.things) if thing.category in categories]
        if len(members) == 1 and not scene.things[members[0]].group:
            yield Sentence(_article(_pick(noun_group, rng), rng), tuple(members), 'unique')


def _article(phrase: str, rng: np.random.RandomState) -> str:
    chance = rng.rand()
    if chance < 0.6:
        return f'the {phrase}'
    if chance < 0.8 or is_plural(phrase):
        return phrase
    return f'{"an" if phrase[0] in "aeiou" else "a"} {phrase}'


def _pick(options: Sequence, rng: np.random.RandomState):
    return options[rng.randint(len(options))]


def vocabulary(categories: Iterable[str]) -> list[str]:
    """All words of sentences about these categories, sorted: what a model's card lists."""
    forms = [form for forms in (*_PLACES.values(), _MANY) for form in forms]
    names = [noun for category in categories for noun in nouns(category)]
    names += [noun for group in HYPERNYMS for noun in group]
    texts = [*forms, *names, *map(plural, names), *_ORDINALS, *_NUMBERS.values(), *COLOURS]
    texts.append('a an the from both')
    return sorted({word for text in texts for word in re.findall(r"[a-z]+(?:['-][a-z]+)*", text)})
