"""Pairs of sentences, English and Esperanto, from a seeded grammar, with the true alignment of their words.

Esperanto leaves the order of words free. Here it is far from that of English: adjectives come after
their noun, the nearest first, and the verb ends the clause. Nouns, adjectives and determiners take -j
in the plural and -n as direct object; "a", "an", "do", "does", "did" and "will" have no word of their
own.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from zlib import crc32

THE_SENTENCE = "the quick brown fox jumps over the lazy dog"
THE_TRANSLATION = "la vulpo bruna rapida super la hundo pigra saltas"

SHORTEST, LONGEST = 2, 16
"""English words in a sentence, without its full stop."""
HELD_OUT_IN = 16
"""One sentence in this many is held out of training, by its checksum."""
UNKNOWN_IN = 20
"""One pair in this many is learned from with a word unknown."""


def _table(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(row.split()) for row in text.split("|"))


LIVING = _table(
    "fox foxes vulp|dog dogs hund|cat cats kat|horse horses ĉeval|cow cows bov|bird birds bird|mouse mice mus|"
    "wolf wolves lup|bear bears urs|rabbit rabbits kunikl|lion lions leon|frog frogs ran|owl owls strig|"
    "duck ducks anas|goat goats kapr|fly flies muŝ|bee bees abel|snake snakes serpent|elephant elephants elefant|"
    "girl girls knabin|boy boys knab|woman women virin|man men vir|child children infan|king kings reĝ|"
    "queen queens reĝin|teacher teachers instruist|doctor doctors kuracist|baker bakers bakist|"
    "sailor sailors marist|friend friends amik|sister sisters fratin|brother brothers frat|"
    "neighbor neighbors najbar|thief thieves ŝtelist"
)
"""Singular, plural, Esperanto root."""
THINGS = _table(
    "house houses dom|garden gardens ĝarden|table tables tabl|chair chairs seĝ|book books libr|"
    "letter letters leter|apple apples pom|flower flowers flor|tree trees arb|leaf leaves foli|"
    "river rivers river|mountain mountains mont|bridge bridges pont|road roads voj|door doors pord|"
    "window windows fenestr|lamp lamps lamp|stone stones ŝton|boat boats boat|ball balls pilk|key keys ŝlosil|"
    "box boxes skatol|watch watches horloĝ|saw saws segil|hat hats ĉapel|coat coats mantel|cup cups tas|"
    "cake cakes kuk|egg eggs ov|drum drums tambur|village villages vilaĝ|city cities urb|forest forests arbar|"
    "field fields kamp|island islands insul|star stars stel|cloud clouds nub|drink drinks trinkaĵ|wall walls mur|"
    "tower towers tur|market markets bazar|school schools lernej|picture pictures bild"
)
"""Singular, plural, Esperanto root."""
ADJECTIVES = _table(
    "quick rapid|brown brun|lazy pigr|small malgrand|big grand|young jun|new nov|good bon|bad malbon|"
    "beautiful bel|ugly malbel|red ruĝ|blue blu|green verd|white blank|black nigr|yellow flav|golden or|"
    "happy feliĉ|sad malĝoj|angry koler|hungry malsat|tired lac|strong fort|weak malfort|clever saĝ|"
    "strange strang|heavy pez|cold malvarm|warm varm|quiet silent|brave kuraĝ"
)
"""English, Esperanto root."""
OLD = ("old", "maljun", "malnov")
"""An adjective with two roots: that for living beings and that for things."""
TRANSITIVE = _table(
    "see sees saw vid|hear hears heard aŭd|love loves loved am|chase chases chased ĉas|find finds found trov|"
    "carry carries carried port|follow follows followed sekv|help helps helped help|"
    "watch watches watched rigard|eat eats ate manĝ|drink drinks drank trink|know knows knew kon|"
    "catch catches caught kapt|hide hides hid kaŝ|call calls called vok|wash washes washed lav|"
    "need needs needed bezon|hold holds held ten|buy buys bought aĉet|sell sells sold vend|"
    "remember remembers remembered memor|forget forgets forgot forges"
)
"""Base form, third person, past, Esperanto root; always with an object."""
INTRANSITIVE = _table(
    "jump jumps jumped salt|run runs ran kur|sleep sleeps slept dorm|sing sings sang kant|"
    "swim swims swam naĝ|fly flies flew flug|leave leaves left forir|wait waits waited atend|"
    "dance dances danced danc|laugh laughs laughed rid|work works worked labor|live lives lived loĝ|"
    "sit sits sat sid|stand stands stood star|play plays played lud|fall falls fell fal|"
    "dream dreams dreamed sonĝ|speak speaks spoke parol"
)
"""Base form, third person, past, Esperanto root; never with an object."""
FREQUENCIES = _table("often ofte|always ĉiam|sometimes foje|never neniam")
MANNERS = _table(
    "quickly rapide|slowly malrapide|quietly silente|happily feliĉe|sadly malĝoje|loudly laŭte|today hodiaŭ|"
    "well bone|gladly volonte"
)
PREPOSITIONS = _table(
    "over super|under sub|in en|on sur|behind malantaŭ|near apud|with kun|without sen|before antaŭ|after post|"
    "from de|to al|through tra|around ĉirkaŭ|for por|against kontraŭ"
)
PRONOUNS = _table("i me mi|you you vi|he him li|she her ŝi|we us ni|they them ili")
"""As subject, otherwise, Esperanto."""
POSSESSIVES = _table("my mia|your via|his lia|her ŝia|our nia|their ilia")
NUMERALS = _table("two du|three tri|five kvin")


@dataclass(frozen=True)
class Pair:
    """A sentence in both languages."""

    source: tuple[str, ...]
    """English words, in small letters; a full stop counts as one."""
    target: tuple[str, ...]
    """Esperanto words."""
    alignment: tuple[int, ...]
    """For each target word, the index of the one source word it comes from."""

    @property
    def held_out(self) -> bool:
        """Whether the pair is kept out of training."""
        return crc32(" ".join(self.source).encode()) % HELD_OUT_IN == 0

    def with_unknown(self, index: int) -> "Pair":
        """Return the pair with a target word, named by its index, and the word it comes from unknown."""
        source, target = list(self.source), list(self.target)
        source[self.alignment[index]] = target[index] = "<unk>"
        return Pair(tuple(source), tuple(target), self.alignment)


@dataclass(frozen=True)
class Phrase:
    """Part of a sentence in both languages."""

    words: tuple[tuple[str, str], ...] = ()
    """In English order: the English word and the Esperanto one, empty where there is none."""
    order: tuple[int, ...] = ()
    """Indices of the words that Esperanto has, as it orders them."""


def _word(english: str, esperanto: str = "") -> Phrase:
    return Phrase(((english, esperanto),), (0,) if esperanto else ())


def _arranged(parts: Sequence[Phrase], order: Sequence[int]) -> Phrase:
    """Join parts given in English order; `order` names them as Esperanto orders them."""
    starts = (0, *accumulate(len(part.words) for part in parts))
    words = tuple(word for part in parts for word in part.words)
    return Phrase(words, tuple(starts[index] + place for index in order for place in parts[index].order))


def _ending(plural: bool, accusative: bool) -> str:
    return "j" * plural + "n" * accusative


def _determiner(rng: random.Random, plural: bool, ending: str, following: str) -> Phrase:
    """Draw a determiner, or none; `following` is the English word after it."""
    kind = rng.random()
    if kind < 0.45:
        return _word("the", "la")
    if kind < 0.65:
        if plural:
            return Phrase()
        return _word("an" if following[0] in "aeiou" else "a")
    if kind < 0.83:
        english, esperanto = rng.choice(POSSESSIVES)
        return _word(english, esperanto + ending)
    if kind < 0.91:
        return _word("those" if plural else "that", "tiu" + ending)
    if not plural:
        return _word("every", "ĉiu" + ending)
    english, esperanto = rng.choice((*NUMERALS, ("many", "multaj")))
    return _word(english, esperanto + ("n" if english == "many" and "n" in ending else ""))


def _noun_phrase(rng: random.Random, accusative: bool, living: bool) -> tuple[Phrase, bool]:
    """Draw a noun with determiner and up to two adjectives; also return whether it is plural."""
    plural = rng.random() < 0.35
    ending = _ending(plural, accusative)
    table = LIVING if living else rng.choice((LIVING, THINGS))
    one, many, root = rng.choice(table)
    old = (OLD[0], OLD[1 if table is LIVING else 2])
    count = rng.choices((0, 1, 2), (40, 35, 25))[0]
    described = [old if rng.random() < 0.08 else rng.choice(ADJECTIVES) for _ in range(count)]
    if count == 2 and described[0] == described[1]:
        del described[0]
    adjectives = [_word(english, f"{stem}a{ending}") for english, stem in described]
    noun = _word(many if plural else one, f"{root}o{ending}")
    described_noun = [*adjectives, noun]
    following, _ = described_noun[0].words[0]
    parts = [_determiner(rng, plural, ending, following), *described_noun]
    return _arranged(parts, (0, *range(len(parts) - 1, 0, -1))), plural


def _argument(rng: random.Random, accusative: bool) -> Phrase:
    """Draw an object, or what follows a preposition."""
    if rng.random() < 0.15:
        _, english, esperanto = rng.choice(PRONOUNS)
        return _word(english, esperanto + _ending(False, accusative))
    return _noun_phrase(rng, accusative, living=False)[0]


def _clause(rng: random.Random) -> Phrase:
    """Draw a clause: subject, verb and what belongs to it."""
    if rng.random() < 0.15:
        english, _, esperanto = rng.choice(PRONOUNS)
        subject, third = _word(english, esperanto), english in ("he", "she")
    else:
        subject, plural = _noun_phrase(rng, accusative=False, living=rng.random() < 0.6)
        third = not plural
    transitive = rng.random() < 0.5
    base, present, past, root = rng.choice(TRANSITIVE if transitive else INTRANSITIVE)
    tense = rng.choices(("as", "is", "os"), (55, 30, 15))[0]
    negated = rng.random() < 0.15
    auxiliary = Phrase()
    if tense == "os":
        auxiliary = _word("will")
    elif negated:
        auxiliary = _word("did" if tense == "is" else "does" if third else "do")
    form = base if auxiliary.words or (tense == "as" and not third) else past if tense == "is" else present
    parts = (
        subject,
        auxiliary,
        _word("not", "ne") if negated else Phrase(),
        _word(*rng.choice(FREQUENCIES)) if not negated and rng.random() < 0.15 else Phrase(),
        _word(form, root + tense),
        _argument(rng, accusative=True) if transitive else Phrase(),
        _prepositional(rng) if rng.random() < (0.2 if transitive else 0.6) else Phrase(),
        _word(*rng.choice(MANNERS)) if rng.random() < 0.15 else Phrase(),
    )
    return _arranged(parts, (0, 3, 5, 6, 7, 2, 1, 4))


def _prepositional(rng: random.Random) -> Phrase:
    return _arranged((_word(*rng.choice(PREPOSITIONS)), _argument(rng, accusative=False)), (0, 1))


def _sentence(rng: random.Random) -> Pair:
    """Draw one clause or two, or now and then a noun with its determiner and adjectives alone."""
    if rng.random() < 0.05:
        parts = [_noun_phrase(rng, accusative=False, living=False)[0]]
    else:
        parts = [_clause(rng)]
        if rng.random() < 0.35:
            parts += [_word("and", "kaj"), _clause(rng)]
    if rng.random() < 0.4:
        parts.append(_word(".", "."))
    phrase = _arranged(parts, range(len(parts)))
    return Pair(
        source=tuple(english for english, _ in phrase.words),
        target=tuple(phrase.words[index][1] for index in phrase.order),
        alignment=phrase.order,
    )


def pairs(seed: int, *, held_out: bool) -> Iterator[Pair]:
    """Yield pair after pair without end: those held out of training, or the others."""
    rng = random.Random(seed)
    while True:
        pair = _sentence(rng)
        words = len(pair.source) - (pair.source[-1] == ".")
        if SHORTEST <= words <= LONGEST and pair.held_out == held_out:
            yield pair


def vocabulary() -> tuple[str, ...]:
    """Return every word of either language, English first, each once."""
    endings = [_ending(plural, accusative) for plural in (False, True) for accusative in (False, True)]
    verbs = TRANSITIVE + INTRANSITIVE
    nouns = LIVING + THINGS
    invariable = (*FREQUENCIES, *MANNERS, *PREPOSITIONS, *NUMERALS, ("not", "ne"), ("and", "kaj"), ("the", "la"))
    english = [
        *(".", "a", "an", "that", "those", "every", "many", "do", "does", "did", "will"),
        *(word for word, _ in (*invariable, *POSSESSIVES, *ADJECTIVES)),
        OLD[0],
        *(word for row in (*PRONOUNS, *nouns) for word in row[:2]),
        *(word for row in verbs for word in row[:3]),
    ]
    esperanto = [
        *(word for _, word in invariable),
        *(word + ending for *_, word in PRONOUNS for ending in ("", "n")),
        *("ĉiu", "ĉiun", "multaj", "multajn"),
        *(word + ending for word in ("tiu", *(each for _, each in POSSESSIVES)) for ending in endings),
        *(f"{root}o{ending}" for *_, root in nouns for ending in endings),
        *(f"{root}a{ending}" for root in (*(each for _, each in ADJECTIVES), *OLD[1:]) for ending in endings),
        *(root + tense for *_, root in verbs for tense in ("as", "is", "os")),
    ]
    return tuple(dict.fromkeys([*english, *esperanto]))
