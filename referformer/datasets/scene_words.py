"""What categories are called.

A name that says more than the category ("man" for a person, "swan" for a bird) comes only in an
enumeration that is true of all: "man or woman", "swan, duck or other bird".
"""

NOUNS = {
    'person': ('person', 'human', 'individual'),
    'bicycle': ('bicycle', 'bike'),
    'car': ('car', 'automobile'),
    'motorcycle': ('motorcycle', 'motorbike'),
    'airplane': ('airplane', 'plane', 'aircraft'),
    'bus': ('bus',),
    'train': ('train',),
    'boat': ('boat', 'ship or boat'),
    'cat': ('cat', 'kitty'),
    'dog': ('dog', 'doggy', 'puppy or dog'),
    'cow': ('cow', 'cow or bull', 'cattle'),
    'sheep': ('sheep', 'sheep or lamb'),
    'horse': ('horse', 'pony or horse'),
    'rhino': ('rhino', 'rhinoceros'),
    'couch': ('couch', 'sofa'),
    'dining table': ('table', 'dining table'),
    'potted plant': ('potted plant', 'plant', 'house plant'),
    'tv': ('tv', 'television', 'screen', 'monitor'),
    'cell phone': ('phone', 'cell phone', 'mobile phone'),
    'mouse': ('computer mouse',),
    'remote': ('remote', 'remote control'),
    'refrigerator': ('refrigerator', 'fridge'),
    'cup': ('cup', 'mug or cup'),
    'donut': ('donut', 'doughnut'),
    'teddy bear': ('teddy bear', 'stuffed toy'),
    'hair drier': ('hair dryer',),
    'sports ball': ('ball',),
    'bag': ('bag',),
    'handbag': ('handbag', 'purse'),
    'backpack': ('backpack', 'rucksack'),
    'pants': ('pants', 'trousers'),
    't-shirt': ('t-shirt', 'tee'),
    'shoes': ('shoes', 'pair of shoes'),
    'sweater': ('sweater', 'jumper'),
    'hat': ('hat', 'cap or hat'),
}
# Of every member of the category one of the words is true.
_ENUMERATED = {
    'person': (
        'man', 'woman', 'boy', 'girl', 'guy', 'child', 'lady', 'kid', 'adult', 'player', 'rider',
        'dancer', 'baby',
    ),
    'bird': ('swan', 'duck', 'goose', 'eagle', 'parrot', 'owl', 'chicken', 'pigeon', 'gull'),
    'dog': ('puppy', 'terrier', 'retriever', 'hound', 'poodle', 'shepherd'),
    'car': ('taxi', 'van', 'sports car', 'jeep', 'limousine', 'race car'),
    'boat': ('ship', 'ferry', 'sailboat', 'canoe', 'yacht'),
    'cat': ('kitten', 'tabby', 'tomcat'),
    'chair': ('armchair', 'stool', 'seat'),
    'couch': ('settee', 'loveseat'),
}  # fmt: skip
_WIDE = {
    'animal': (
        'camel', 'deer', 'goat', 'pig', 'lion', 'tiger', 'monkey', 'rabbit', 'fox', 'wolf', 'bear',
        'kangaroo', 'donkey', 'elephant', 'giraffe', 'creature',
    ),
    'vehicle': ('truck', 'tractor', 'van', 'tram', 'scooter', 'wagon', 'tank'),
}  # fmt: skip
ANIMALS = (
    'bird', 'cat', 'dog', 'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra', 'giraffe', 'rhino',
    'flamingo', 'emu',
)  # fmt: skip
VEHICLES = ('bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat')
# Categories that a thing of the first may also be called by: nothing is said of them as absent.
OTHERS = {
    'bag': ('handbag', 'backpack', 'suitcase'),
    'handbag': ('bag', 'backpack', 'suitcase'),
    'backpack': ('bag', 'handbag', 'suitcase'),
    'suitcase': ('bag', 'handbag', 'backpack'),
    'truck': ('car', 'bus'),
    'bus': ('car', 'truck'),
    'car': ('truck', 'bus'),
    'couch': ('chair', 'bed'),
    'chair': ('couch', 'bench'),
    'bench': ('chair', 'couch'),
    'bed': ('couch',),
    'cup': ('bowl', 'wine glass', 'bottle', 'vase'),
    'vase': ('cup', 'potted plant', 'bottle'),
    'potted plant': ('vase',),
    'tv': ('laptop',),
    'laptop': ('tv', 'keyboard'),
    'bicycle': ('motorcycle',),
    'motorcycle': ('bicycle',),
    'flamingo': ('bird', 'emu'),
    'emu': ('bird', 'flamingo'),
    'bird': ('flamingo', 'emu'),
    'sheep': ('cow',),
    'cow': ('sheep',),
    'teddy bear': ('bear',),
}
# What they wear, show or hold decides on the colour, or nobody would say it.
UNCOLOURED = frozenset({'person', 'tv', 'laptop', 'potted plant', 'dining table', 'tights'})
_PLURALS = {
    'person': 'people', 'human': 'humans', 'man': 'men', 'woman': 'women', 'child': 'children',
    'sheep': 'sheep', 'cattle': 'cattle', 'aircraft': 'aircraft', 'mouse': 'mice',
    'knife': 'knives', 'shoes': 'shoes', 'pair of shoes': 'pairs of shoes', 'pants': 'pants',
    'trousers': 'trousers', 'jeans': 'jeans', 'shorts': 'shorts', 'skis': 'skis',
    'scissors': 'scissors', 'boots': 'boots', 'gloves': 'gloves', 'socks': 'socks',
    'tights': 'tights', 'goose': 'geese', 'bear': 'bears', 'scarf': 'scarves',
}  # fmt: skip


def _enumerations(words: tuple[str, ...], name: str) -> tuple[str, ...]:
    """ "swan, duck or other bird": neighbours in the list, each in several places."""
    n = len(words)
    return tuple(
        f'{words[i]}, {words[(i + step) % n]} or other {name}'
        for i in range(n)
        for step in (1, 2, 5)
    ) + tuple(f'{words[i]} or other {name}' for i in range(n))


_ENUMERATIONS = {name: _enumerations(words, name) for name, words in _ENUMERATED.items()}
HYPERNYMS = {
    ('animal',) * 6 + _enumerations(_WIDE['animal'], 'animal'): ANIMALS,
    ('vehicle',) * 6 + _enumerations(_WIDE['vehicle'], 'vehicle'): VEHICLES,
}


def nouns(category: str) -> tuple[str, ...]:
    """What one of the category is called; more usual names come more often."""
    plain = NOUNS.get(category, (category,))
    listed = _ENUMERATIONS.get(category, ())
    # As often as all other names: by them alone the words in them are learned.
    return plain * max(1, len(listed) // len(plain)) + listed


def is_plural(phrase: str) -> bool:
    """Whether a word of a phrase has no singular, as "pants": it takes no article "a"."""
    return any(word.endswith('s') and _PLURALS.get(word) == word for word in phrase.split())


def plural(noun: str) -> str:
    """Of the last word, and of each word around "or"."""
    if ' or ' in noun:
        *first, last = noun.replace(', ', ' , ').split(' or ')
        words = ' or '.join(first).split(' , ')
        return f'{", ".join(map(plural, words))} or {plural(last)}'
    if noun in _PLURALS:
        return _PLURALS[noun]
    head, space, last = noun.rpartition(' ')
    if last in _PLURALS:
        return head + space + _PLURALS[last]
    if last.endswith(('s', 'x', 'ch', 'sh')):
        return noun + 'es'
    if last.endswith('y') and last[-2] not in 'aeiou':
        return noun[:-1] + 'ies'
    return noun + 's'
