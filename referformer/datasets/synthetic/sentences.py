"""Sentences that are true of exactly one object of a scene.

Three kinds, after what is needed to find the object: its appearance; its motion (its appearance, as
far as the sentence gives it, fits several objects); its relation to another object (likewise).
"""

from itertools import combinations
from typing import NamedTuple

from numpy.random import Generator

from .facts import RELATIONS, Facts, holds
from .scene import COLOURS, SHAPES, SIZES, SceneObject

KINDS = ('appearance', 'motion', 'relation')

_TURNED_DOWN = 0.8  # share of the scenes where less than half of the objects have a relation
_ATTRIBUTES = ('size', 'colour', 'shape')
_THING = ('thing', 'object')
_WORDS = {
    'small': ('small', 'little'),
    'large': ('large', 'big'),
    'circle': ('circle', 'disc'),
    'square': ('square', 'box'),
    'cross': ('cross', 'plus'),
}
_MOTION_PHRASES = {
    'left': ('to the left', 'left', 'towards the left'),
    'right': ('to the right', 'right', 'towards the right'),
    'up': ('up', 'upwards'),
    'down': ('down', 'downwards'),
}
_APPEARANCE_FORMS = ('the {target}', 'the {target} in the video', 'the {target} in this scene')
_MOVING_FORMS = (
    'the {target} moving {way}',
    'the {target} that moves {way}',
    'the {target} going {way}',
    'the {target} that goes {way}',
    'the {target} which is heading {way}',
)
_STILL_FORMS = (
    'the {target} standing still',
    'the {target} that stands still',
    'the {target} that does not move',
    'the {target} staying in place',
    'the {target} which is not moving',
)
_RELATION_FORMS = {
    'left of': ('to the left of', 'left of', 'that is to the left of'),
    'right of': ('to the right of', 'right of', 'that is to the right of'),
    'above': ('above', 'that is above', 'higher than'),
    'below': ('below', 'under', 'lower than'),
    'bigger': ('that is bigger than', 'bigger than', 'that is larger than'),
    'smaller': ('that is smaller than', 'smaller than'),
    'behind': ('that passes behind', 'passing behind', 'that goes behind'),
    'in front': ('that passes in front of', 'passing in front of', 'that goes in front of'),
}


class Expression(NamedTuple):
    """A sentence, its kind ('appearance', 'motion' or 'relation') and the object's id (from 1)."""

    text: str
    kind: str
    obj_id: int


class Content(NamedTuple):
    """What a sentence says, before it has words.

    Args:
        kind: One of `KINDS`.
        given: The attributes of the target that are named, of 'size', 'colour', 'shape'.
        relation: One of `RELATIONS`, for relations.
        landmark: Index of the other object, for relations.
        landmark_given: Its attributes that are named.
        weight: How often it is chosen, against the others of its kind.
    """

    kind: str
    given: tuple[str, ...]
    relation: str = ''
    landmark: int = -1
    landmark_given: tuple[str, ...] = ()
    weight: float = 1.0


def _vocabulary() -> tuple[str, ...]:
    """All words that sentences can have."""
    phrases = [*_APPEARANCE_FORMS, *_MOVING_FORMS, *_STILL_FORMS, *_THING, 'one']
    for name in (*COLOURS, *SHAPES, *SIZES):
        phrases += _WORDS.get(name, (name,))
    for options in (*_MOTION_PHRASES.values(), *_RELATION_FORMS.values()):
        phrases += options
    words = {word for phrase in phrases for word in phrase.split()}
    return tuple(sorted(word for word in words if '{' not in word))


VOCABULARY = _vocabulary()


def write_sentences(rng: Generator, facts: Facts) -> list[Expression] | None:
    """Write about three sentences for every object, or None where an object has fewer than two.

    Kinds come out even as far as the scene allows: an object for which a kind is impossible leaves
    its turn to another one, and most scenes with few relations are turned down. No two sentences
    of an object are built from the same words.
    """
    count = len(facts.scene.objects)
    texts: list[dict[str, str]] = [{} for _ in range(count)]  # kind by text, of every object
    options = {
        kind: [find_contents(facts, index, kind) for index in range(count)] for kind in KINDS
    }
    with_relation = sum(map(bool, options['relation']))
    if 2 * with_relation < count and rng.random() < _TURNED_DOWN:
        return None
    for kind in KINDS:
        able = [int(i) for i in rng.permutation(count) if options[kind][i]]
        for index in [*able, *able][:count]:
            _add_sentence(rng, facts, index, options[kind][index], texts[index])
    for index in range(count):
        contents = [content for kind in KINDS for content in options[kind][index]]
        if len(texts[index]) < 2 and contents:
            _add_sentence(rng, facts, index, contents, texts[index])
    if min(map(len, texts)) < 2:
        return None
    return [
        Expression(text, kind, index + 1)
        for index in range(count)
        for text, kind in texts[index].items()
    ]


def _add_sentence(
    rng: Generator, facts: Facts, index: int, contents: list[Content], texts: dict[str, str]
) -> None:
    """Add a sentence to those of an object (kind by text), if one in other words is found."""
    known = {frozenset(text.split()) for text in texts}
    for _ in range(8):
        content = _choose(rng, contents)
        text = _say(rng, facts, index, content)
        if frozenset(text.split()) not in known:
            texts[text] = content.kind
            return


def find_contents(facts: Facts, index: int, kind: str) -> list[Content]:
    """Everything of a kind that can be said of object `index` and of no other one."""
    find = {'appearance': _find_appearance, 'motion': _find_motion, 'relation': _find_relation}
    return find[kind](facts, index)


def _find_appearance(facts: Facts, index: int) -> list[Content]:
    return [
        Content('appearance', given, weight=0.5 * len(given))
        for given in _unique_names(facts, index)
    ]


def _find_motion(facts: Facts, index: int) -> list[Content]:
    objects = facts.scene.objects
    found = []
    for given in _subsets():
        alike = _alike(facts, index, given)
        same_motion = [i for i in alike if objects[i].motion == objects[index].motion]
        if len(alike) > 1 and same_motion == [index]:
            found.append(Content('motion', given, weight=1 + len(given)))
    return found


def _find_relation(facts: Facts, index: int) -> list[Content]:
    found = []
    for landmark in range(len(facts.scene.objects)):
        names = [given for given in _unique_names(facts, landmark) if 'size' not in given]
        if landmark == index or not names:
            continue
        for relation in RELATIONS:
            if holds(facts, relation, index, landmark):
                found += _relations_to(facts, index, relation, landmark, names)
    return found


def _relations_to(
    facts: Facts, index: int, relation: str, landmark: int, names: list[tuple[str, ...]]
) -> list[Content]:
    """Contents that need `relation`: without it they would fit another object."""
    found = []
    # "The small square that is smaller than ..." gives the relation away.
    subsets = [g for g in _subsets() if relation not in ('bigger', 'smaller') or 'size' not in g]
    for given in subsets:
        alike = _alike(facts, index, given)
        rivals = [i for i in alike if i not in (index, landmark)]
        if len(alike) > 1 and all(holds(facts, relation, i, landmark) is False for i in rivals):
            # With rivals besides the landmark, naming the landmark alone does not tell the target.
            weight = (4 if rivals else 1) * (1 + len(given))
            found += [Content('relation', given, relation, landmark, n, weight) for n in names]
    return found


def _subsets() -> list[tuple[str, ...]]:
    return [given for count in range(4) for given in combinations(_ATTRIBUTES, count)]


def _alike(facts: Facts, index: int, given: tuple[str, ...]) -> list[int]:
    """Indices of the objects that share the given attributes with object `index`, itself too."""
    objects = facts.scene.objects

    def look(obj: SceneObject) -> list[str]:
        return [getattr(obj, attribute) for attribute in given]

    return [i for i, obj in enumerate(objects) if look(obj) == look(objects[index])]


def _unique_names(facts: Facts, index: int) -> list[tuple[str, ...]]:
    """Sets of attributes that no other object shares with object `index`."""
    return [given for given in _subsets() if _alike(facts, index, given) == [index]]


def _choose(rng: Generator, contents: list[Content]) -> Content:
    """Draw a content by weight; all relations that hold have the same chance."""
    relations = sorted({content.relation for content in contents})
    relation = relations[rng.integers(len(relations))]
    contents = [content for content in contents if content.relation == relation]
    weights = [content.weight for content in contents]
    return contents[rng.choice(len(contents), p=[w / sum(weights) for w in weights])]


def _name(rng: Generator, obj: SceneObject, given: tuple[str, ...], nouns: tuple[str, ...]) -> str:
    """Words for an object: "small red star", "red thing"."""
    words = [getattr(obj, attribute) for attribute in _ATTRIBUTES if attribute in given]
    words = [rng.choice(_WORDS.get(word, (word,))) for word in words]
    return ' '.join(words if 'shape' in given else [*words, rng.choice(nouns)])


def _say(rng: Generator, facts: Facts, index: int, content: Content) -> str:
    """Put a content into words."""
    obj = facts.scene.objects[index]
    target = _name(rng, obj, content.given, (*_THING, 'one'))
    if content.kind == 'appearance':
        return rng.choice(_APPEARANCE_FORMS).format(target=target)
    if content.kind == 'motion':
        if obj.motion == 'still':
            return rng.choice(_STILL_FORMS).format(target=target)
        way = rng.choice(_MOTION_PHRASES[obj.motion])
        return rng.choice(_MOVING_FORMS).format(target=target, way=way)
    # No "one" for a landmark: "the square above the red one" would mean a red square.
    landmark = facts.scene.objects[content.landmark]
    other = _name(rng, landmark, content.landmark_given, _THING)
    return f'the {target} {rng.choice(_RELATION_FORMS[content.relation])} the {other}'
