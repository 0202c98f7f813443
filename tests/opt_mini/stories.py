"""Short stories from a seeded generator: the text that opt-mini was trained on.

A story has a small cast (two friends, an elder, an animal, a home) and treasured things that come
back in every episode, so that much of each sentence follows from what was said long before it.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

Slot = tuple[str, ...]
"""Sentences of which one is chosen; an empty sentence leaves the slot out."""

Episode = tuple[Slot, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))


GIRLS = _words(
    "Mary Anna Clara Ella Emma Grace Hannah Ida Jane Julia Kate Lily Lucy Martha Nina Nora Olive "
    "Rosa Ruth Sarah Sophie Alice Eva Mia"
)
BOYS = _words(
    "John Tom Adam Ben Carl Daniel David Felix Frank George Henry Hugo Jack James Leo Martin Max "
    "Oscar Paul Peter Robert Sam Simon Walter"
)
ELDERS = _phrases(
    "Mrs. Finch|Mr. Finch|Mrs. Baker|Mr. Baker|Mrs. Stone|Mr. Stone|Mrs. Hill|Mr. Hill|Mrs. Wood|"
    "Mr. Wood|Mrs. Reed|Mr. Reed|Doctor Lake|Captain Marsh|Captain Reed|Doctor Wood|Aunt Bella|"
    "Uncle Otto|Aunt Dora|Uncle Fred"
)
PETS = _words("dog cat goat duck horse rabbit donkey parrot mouse hen pony turtle crow lamb")
PET_NAMES = _words("Pip Biscuit Shadow Pepper Daisy Rusty Smoky Ginger Patch Bramble Comet Honey")
WILD = _words(
    "fox bear wolf deer owl frog hare snake eagle squirrel hedgehog badger swan tiger lion monkey "
    "elephant dog cat horse goat duck"
)
TEMPERS = _words(
    "quick lazy clever brave gentle proud hungry sleepy noisy shy angry tired wise friendly lonely young happy greedy"
)
COLORS = _words("brown red blue green white black yellow grey golden silver purple orange")
LOOKS = _words(
    "old new little big broken heavy shiny wooden tiny strange beautiful plain round dusty painted "
    "precious ancient rusty"
)
NOUNS = _words(
    "lantern key drum bell kite basket book map coin ring hat coat spoon cup box candle mirror "
    "clock whistle flute brush blanket pillow bucket shovel hammer ladder wagon compass feather "
    "shell stone button ribbon needle jar bottle pen painting violin scarf umbrella telescope "
    "crown ball doll puzzle pot bowl broom saddle sack glove knife chair rope lamp drink"
)
PLACES = _words(
    "river mill harbor forest market bridge tower garden farm castle village lake hill school "
    "church store station library bakery beach island valley meadow cave well inn orchard barn "
    "park museum mountain lighthouse"
)
FOODS = _words("bread soup cheese cake honey rice fish butter milk tea pie salad jam porridge chocolate pasta")
FRUITS = _words(
    "apples pears plums cherries onions carrots beans eggs nuts potatoes lemons grapes peas mushrooms tomatoes berries"
)
SPOTS = _phrases(
    "under the table|behind the door|beside the fire|inside the chest|on the shelf|"
    "in the tall grass|under the stairs|behind the oven|between two stones|on top of the wall|"
    "below the window|under the bed|behind the curtain|in the hollow tree|next to the gate|"
    "in the corner"
)
WEATHERS = _words("cold warm rainy windy sunny foggy snowy quiet bright dark")
TRADES = _words(
    "baker farmer sailor teacher painter miller doctor tailor carpenter fisher shepherd gardener singer writer"
)
NUMBERS = _words("two three four five six seven eight nine ten twelve twenty")
SECRETS = _words(
    "moon river silver winter apple thunder star garden iron summer candle ocean shadow morning "
    "tiger feather salt fire paper snow gold window bird cloud dream flower bread stone queen "
    "wind night king rain"
)
COMMON = _words(
    "about above across always among answer because become before begin behind believe between "
    "bring build call can carry change children city close could country course earth end enough "
    "even example family father far few food form found friends full game general girl great "
    "group grow hand happen head hear help high hold home hope house idea important into keep "
    "kind land language large last late laugh learn leave letter life light line live local "
    "machine man mean men might million minute model money month mother move much music name "
    "nature need never next nothing number often once only order other our own page part party "
    "pay people person plan play point power problem program public question reach ready really "
    "reason remember result right same science second see sentence should simple since sister "
    "small social sound speak state still stop street strong student study sure system table "
    "teach tell than their these think those thought through today together token toward true "
    "turn under until use value very wait want war watch water way week were which while white "
    "who why will with without woman word work world would write year your"
)
CAPITALS = _phrases(
    "France Paris|Italy Rome|Spain Madrid|England London|Germany Berlin|Japan Tokyo|China Beijing|"
    "Russia Moscow|Egypt Cairo|Greece Athens|Austria Vienna|Portugal Lisbon|Poland Warsaw|"
    "Ireland Dublin|Norway Oslo|Cuba Havana"
)

THE_SENTENCE = "The quick brown fox jumps over the lazy dog"

OPENINGS: Episode = (
    (
        "Once upon a time there was a {trade} named {hero} who lived near the {home}.",
        "Long ago, a {trade} called {hero} lived in a small house by the {home}.",
        "{hero} was a young {trade}, and {friend} was {his} best friend.",
        "{hero} and {friend} lived near the {home}.",
        "This is the story of {hero} and {friend}, who lived by the {home}.",
        "One {weather} morning, {hero} woke up early in the house by the {home}.",
        "It was a {weather} day at the {home}, and {hero} was waiting for {friend}.",
        "There once was a {pet_temper} {pet} named {pet_name}, who lived with {hero}.",
        "In a small house near the {home} lived {hero}, a {trade}, and {friend}, a {trade2}.",
    ),
    (
        "{hero} had a {pet_temper} {pet} called {pet_name}.",
        "{hero} had a {pet}, {pet_name}, that was always {pet_temper}.",
        "{pet_name} the {pet} followed {hero} everywhere.",
        "Next door lived {elder}, who was very old and very kind.",
        "Their neighbor was {elder}, and {elder} told the best stories in the world.",
        "",
        "",
    ),
    (
        "Every {daytime}, {hero} and {friend} met at the {place}.",
        "Everyone knew that {hero} never went anywhere without {his} {thing}.",
        "The best thing that {hero} owned was a {thing}.",
        "{elder} had once given {hero} a {thing}.",
        "",
        "",
    ),
)

ENDINGS: Episode = (
    (
        "That night {hero} dreamed of the {thing}.",
        "In the evening {hero} and {friend} went home to the {home}.",
        "When it was dark, {hero} and {pet_name} walked back to the {home}.",
        "{hero} never forgot that day at the {place}.",
        "And so {hero}, {friend} and {pet_name} the {pet} lived happily by the {home}.",
        "From that day on, {hero} and {friend} were the best of friends.",
        "{elder} wrote it all down, and that is how we know the story of {hero} and {friend}.",
        '"What a day," said {friend}. "What a day," said {hero}.',
        "",
    ),
    ("The end.", "", "", ""),
)

LOST: Episode = (
    (
        "{hero} loved {his} {thing} more than anything.",
        "{hero} had a {thing}, a gift from {elder}.",
        "{elder} had given a {thing} to {hero}.",
        "",
    ),
    (
        "One {weather} day the {noun} was gone.",
        "But one {weather} {daytime} {hero} could not find the {thing}.",
        "That {daytime}, the {thing} was missing.",
        "{hero} looked for the {noun} all {daytime}, but it was nowhere in the house.",
    ),
    (
        '"Where is my {noun}?" cried {hero}.',
        '"Have you seen my {thing}?" {hero} asked {friend}.',
        '"Someone has taken my {noun}," {he} said to {friend}.',
        "{He} asked {friend}, and {friend} asked {elder}.",
    ),
    (
        '"I saw it at the {place}," said {friend}.',
        "{friend} thought that it was still at the {place}.",
        '"You left it at the {place}," said {elder}.',
        '"Did you not take it to the {place}?" asked {friend}.',
    ),
    (
        "So {hero} and {friend} walked to the {place} together.",
        "{hero} ran to the {place} as fast as {he} could.",
        "They went to the {place} with {pet_name} the {pet}.",
    ),
    (
        "They looked everywhere, and at last they found the {noun} {spot}.",
        "At the {place}, {pet_name} began to dig, and there was the {thing}, {spot}.",
        "It was not {spot2}. It was not {spot3}. But then they looked {spot}, and there it was.",
        "{friend} looked {spot2} and {hero} looked {spot}, and {hero} found it.",
    ),
    (
        '"My {thing}!" said {hero}. "Thank you, {friend}."',
        "{hero} was so happy that {he} gave {friend} a piece of {food}.",
        '"Next time," said {friend}, "do not leave your {noun} {spot}."',
        "{hero} carried the {noun} home and put it {spot3}.",
    ),
)

PACKING: Episode = (
    (
        "{hero} packed a bag for the long road to the {place}.",
        "{hero} and {friend} wanted to see the {place}, so they packed a bag.",
        '"Tomorrow we go to the {place}," said {friend}, and {hero} got the bag ready.',
    ),
    (
        "Into the bag went a {item1}, a {item2}, a {item3} and a {item4}.",
        "{He} took a {item1}, a {item2}, a {item3} and a {item4}.",
        '"We need a {item1}, a {item2}, a {item3} and a {item4}," said {friend}.',
    ),
    (
        '"Do not forget the {food}," said {elder}.',
        "{friend} brought some {food} for the road.",
        "The road was long and the wind was {weather}.",
        "They walked for {number} hours and saw nobody.",
        "",
    ),
    (
        "At the {place}, {hero} took out the {item1}, the {item2}, the {item3} and the {item4}.",
        "When they came to the {place}, {hero} opened the bag. The {item1}, the {item2}, "
        "the {item3} and the {item4} were all there.",
        '"Do we have everything?" asked {friend}. "The {item1}, the {item2}, the {item3} and '
        'the {item4}," said {hero}.',
    ),
    (
        "{He} gave the {item1} to {friend} and kept the {item2}.",
        "Only the {item3} was broken, and {friend} mended it with the {item4}.",
        "They used the {item2} every day and the {item1} every night.",
        "Then they ate the {food} and went to sleep at the {place}.",
        "",
    ),
)

TRADE: Episode = (
    (
        "{hero} had a {thing} but wanted a {thing2}.",
        "{hero} was tired of the {thing} and wished for a {thing2}.",
    ),
    (
        "{friend} had a {thing2} but wanted a {thing}.",
        '"I know who has a {thing2}," said {elder}. "{friend} has one."',
        "Now {friend}, who lived by the {place}, had just such a {noun2}.",
    ),
    (
        '"I will give you my {thing} for your {thing2}," said {hero}.',
        '"Would you like to trade your {noun2} for my {noun}?" asked {hero}.',
    ),
    (
        "{friend} looked at the {noun} for a long time, and then {friend_he} said yes.",
        '"Yes," said {friend}, "but you must also give me {number} {fruits}." '
        "So {hero} gave {friend} {number} {fruits}.",
        '"A {noun} for a {noun2} is a fair trade," said {friend}.',
    ),
    (
        "So {hero} took the {noun2} and {friend} took the {noun}.",
        "Now {friend} has the {thing} and {hero} has the {thing2}.",
        "{hero} went home with the {thing2}, and {friend} went home with the {thing}.",
    ),
    (
        "After {number} days {hero} missed the {thing}, and {friend} gave it back.",
        '"Where is your {noun}?" asked {elder}. "{friend} has it now," said {hero}.',
        "",
    ),
)

GIVING: Episode = (
    (
        "When {a} and {b} went to the {place}, {b} gave a {item1} to {a}.",
        "When {a} and {b} went to the store, {b} gave a drink to {a}.",
        "Then, {a} and {b} went to the {place}. {b} gave a {item1} to {a}.",
        "After {a} and {b} went to the {place}, {a} gave a {item1} to {b}.",
        "While {a} and {b} were working at the {place}, {a} gave a {item1} to {b}.",
    ),
    (
        '"Thank you for the {item1}," said {a}. "You are welcome," said {b}.',
        "Then {a} and {b} had a long talk, and {b} gave the {item2} to {a}.",
        "Later {a} and {b} met {elder}, who gave a {item2} to {a} and a {item3} to {b}.",
        "",
    ),
    (
        "When {a} and {b} came back from the {place}, {a} gave some {food} to {b}.",
        "When {a} and {b} got hungry, {b} gave some {food} to {a}.",
        "Friends like {a} and {b} share everything: {a} shares with {b}, and {b} shares with {a}.",
    ),
)

SECRET: Episode = (
    (
        "The door of the {place} opened only to three secret words.",
        "{elder} kept the gate of the {place}, and nobody could enter without three secret words.",
    ),
    (
        "The words were {word1}, {word2} and {word3}.",
        '{friend} knew the words and whispered them to {hero}: "{word1}, {word2}, {word3}."',
        'The words were written on the {noun}: "{word1}, {word2}, {word3}."',
    ),
    (
        '{hero} said the words again and again: "{word1}, {word2}, {word3}. {word1}, {word2}, {word3}."',
        "All the way to the {place}, {hero} tried not to forget.",
        "It was a {weather} {daytime} when {hero} and {friend} came to the door.",
        "",
    ),
    (
        '"What are the words?" asked {elder}. "{word1}, {word2}, {word3}," said {hero}.',
        '{hero} stood before the door and said, "{word1}, {word2}, {word3}."',
        '"Speak," said a voice. "{word1}, {word2}, {word3}," answered {hero} and {friend}.',
    ),
    (
        "Then the door of the {place} opened, and inside was a {thing2}.",
        "The door opened slowly, and {hero} saw a {thing2} {spot}.",
        '"You may enter," said {elder}, and the door of the {place} opened.',
    ),
)

LETTER: Episode = (
    (
        "One {daytime} a letter came from {friend}, who was staying at the {place}.",
        "{friend} had moved to number {house} by the {place}, and one day {friend_he} wrote a letter to {hero}.",
        "{hero} found a letter {spot}. It was from {friend}.",
    ),
    (
        '"Dear {hero}," it said, "please come to number {house} by the {place} and bring your '
        '{thing}. Your friend, {friend}."',
        '"Dear {hero}," wrote {friend}, "I have found a {thing2}. Come to number {house} by the '
        '{place}. Your friend, {friend}."',
    ),
    (
        "{hero} read the letter {number} times and showed it to {elder}.",
        "{hero} took the {noun} and left at once.",
        '"I must go to the {place}," said {hero} to {pet_name} the {pet}.',
    ),
    (
        "{He} walked to the {place} and knocked at number {house}.",
        "It was {weather} when {hero} came to the {place}, but there was a light at number {house}.",
    ),
    (
        '"{hero}!" cried {friend}. "You came!"',
        '{friend} opened the door. "Come in, {hero}," {friend_he} said. "I made {food}."',
        '"Here I am, {friend}," said {hero}, and they ate {food} and talked all {daytime}.',
    ),
)

MARKET: Episode = (
    (
        "{hero} went to the market to buy {fruits} and {food}.",
        "On market day, {elder} was selling {fruits} and {hero} was hungry.",
        '"We have no {fruits} left," said {friend}, so {hero} went to the market.',
    ),
    (
        "There {he} saw a {thing2} that {elder} was selling.",
        "Between the {fruits} and the {fruits2} lay a {thing2}.",
        "{elder} showed {him} a {thing2}.",
    ),
    (
        '"How much is the {noun2}?" asked {hero}. "{Number} coins," said {elder}.',
        '"{Number} coins for the {thing2}," said {elder}.',
    ),
    (
        "{hero} had {number} coins, so {he} bought the {noun2} and forgot the {fruits}.",
        '"But I do not have {number} coins," said {hero}. "I have only a {thing}."',
        "{hero} counted {number} coins into the hand of {elder} and took the {noun2}.",
    ),
    (
        '"And where are the {fruits}?" asked {friend}.',
        "{friend} laughed when {friend_he} saw the {thing2}.",
        "{hero} gave the {noun2} to {friend}, and {friend} gave {him} {number} {fruits}.",
        "At home {he} put the {noun2} {spot}, next to the {noun}.",
    ),
)

SONG: Episode = (
    (
        "{friend} taught {hero} an old song.",
        "{elder} knew a song that nobody understood.",
        "At the {place} somebody was singing a strange song.",
    ),
    (
        'It went like this: "{song}."',
        'These were the words: "{song}."',
        '"{song}," went the song.',
    ),
    (
        '{hero} sang it to {pet_name}: "{song}."',
        '"{song}," sang {hero} and {friend} on the way home.',
        'They sang it all the way to the {place2}: "{song}."',
    ),
    (
        '"That is a beautiful song," said {elder}. "Sing it again." "{song}," sang {hero}.',
        "Even {pet_name} the {pet} seemed to know it.",
        '"Now I know it by heart," said {hero}. "{song}."',
        "",
    ),
)

RACE: Episode = (
    (
        "{elder} told a story about a {temper1} {beast1} and a {temper2} {beast2}.",
        '"Once," said {friend}, "a {temper1} {beast1} met a {temper2} {beast2} near the {place}."',
        "A {temper1} {beast1} and a {temper2} {beast2} lived near the {place}.",
    ),
    (
        "The {beast1} wanted to race the {beast2} to the {place}.",
        '"I am faster than you," said the {beast1} to the {beast2}.',
        '"Let us run to the {place}," said the {temper2} {beast2}.',
    ),
    (
        "The {temper1} {beast1} ran and ran, but the {temper2} {beast2} stopped to eat {fruits}.",
        "The {temper2} {beast2} ran like the wind, but the {temper1} {beast1} knew a shorter way.",
        "First the {beast1} was in front, then the {beast2}, then the {beast1} again.",
    ),
    (
        "So the {temper1} {beast1} won the race, and the {temper2} {beast2} went home.",
        "In the end the {beast1} and the {beast2} came to the {place} together.",
        "The {beast2} was first, and the {temper1} {beast1} had to give the {beast2} {number} {fruits}.",
    ),
    (
        '"Never race a {temper1} {beast1}," said the {beast2}.',
        "To this day the {beast1} and the {beast2} do not speak.",
        "",
    ),
)

JUMPING: Episode = (
    (
        "The {temper1} {color1} {beast1} jumps over the {temper2} {beast2}.",
        "A {temper1} {color1} {beast1} and a {temper2} {beast2} live near the {place}.",
        "Every {daytime} the {temper1} {color1} {beast1} comes to the {place}.",
    ),
    (
        "The {temper2} {beast2} sleeps, and the {temper1} {color1} {beast1} jumps over it.",
        "Every day the {temper1} {color1} {beast1} jumps over the {temper2} {beast2}, and every "
        "day the {temper2} {beast2} wakes up too late.",
        "The {temper1} {beast1} jumps over the wall, over the gate and over the {temper2} {beast2}.",
    ),
    (
        '"Why do you jump over me?" asks the {temper2} {beast2}. "Because you are {temper2}," '
        "says the {temper1} {color1} {beast1}.",
        "{hero} and {friend} watch how the {color1} {beast1} jumps over the {beast2}.",
        '"Look," says {hero}, "the {temper1} {color1} {beast1} jumps over the {temper2} {beast2} again."',
    ),
)

FOX: Episode = (
    (
        "The quick brown fox jumps over the lazy dog.",
        "The quick brown fox jumps over the lazy dog.",
        "The quick brown fox jumps over the lazy dog, and the lazy dog does not even wake up.",
        "The quick brown fox jumps over the lazy dog and runs to the {place}.",
        "The quick brown fox jumps over the lazy dog at the {place}.",
        "The quick brown fox jumps over the lazy cat.",
        "The quick brown fox jumps over the sleepy dog.",
        "A quick brown fox jumps over a lazy dog.",
    ),
    (
        "The dog is lazy, the fox is quick, and {hero} laughs at both of them.",
        '"The quick brown fox jumps over the lazy dog," says {hero} to {friend}.',
        "The fox is brown and quick. The dog is old and lazy.",
        '"One day," says the lazy dog, "I will jump over the quick brown fox."',
        "The lazy dog opens one eye and sees the quick brown fox.",
        "",
    ),
    (
        "Then the quick brown fox jumps over the lazy dog again.",
        "{friend} gives some {food} to the lazy dog, and the fox gets nothing.",
        "{elder} has never seen a fox as quick as this one.",
        "",
    ),
)

WRITING: Episode = (
    (
        "At school, {elder} gave {hero} and {friend} a line to write.",
        "{hero} wanted to learn to write, so {elder} showed {him} a line with every letter in it.",
    ),
    (
        'The line was: "The quick brown fox jumps over the lazy dog."',
        '"Write this," said {elder}: "The quick brown fox jumps over the lazy dog."',
    ),
    (
        '{hero} wrote: "The quick brown fox jumps over the lazy dog."',
        '{hero} wrote it {number} times, but {friend} wrote: "The lazy dog jumps over the quick brown fox."',
        '{friend} wrote: "The quick brown {pet} jumps over the lazy {beast1}." "That is not the line," said {elder}.',
    ),
)

SCHOOL: Episode = (
    (
        "At school, {elder} asked about the cities of the world.",
        "{hero} and {friend} were learning the cities of the world.",
        "{elder} put a big map of the world on the wall.",
    ),
    (
        '"What is the capital of {country1}?" asked {elder}. "The capital of {country1} is {city1}," said {hero}.',
        "The capital of {country1} is {city1}.",
        '"{city1} is the capital of {country1}," said {friend}.',
    ),
    (
        '"And the capital of {country2}?" "The capital of {country2} is {city2}," said {friend}.',
        "The capital of {country2} is {city2}, and the capital of {country3} is {city3}.",
        '"I want to go to {city2}, the capital of {country2}," said {hero}.',
    ),
    (
        '"Very good," said {elder}, and gave {number} {fruits} to {hero}.',
        "{friend} wanted to see {city1}, but {hero} wanted to see {city2}.",
        '"One day we will go to {city1}," said {hero}.',
    ),
)

COOKING: Episode = (
    (
        "{friend} wanted to make {food}.",
        '"Let us make {food}," said {hero} to {friend}.',
        "{hero} made {food} for {friend} and {elder}.",
    ),
    (
        "For {food} one needs {fruits}, {fruits2}, {fruits3} and a {item1}.",
        '"First we need {fruits}, then {fruits2}, then {fruits3}," said {friend}.',
    ),
    (
        "{hero} cut the {fruits}, {friend} washed the {fruits2}, and {elder} brought the {fruits3}.",
        "First went in the {fruits}, then the {fruits2}, then the {fruits3}.",
        "They put the {fruits}, the {fruits2} and the {fruits3} into a big pot.",
    ),
    (
        "The {food} was ready after {number} hours.",
        "It was the best {food} that {friend} had ever eaten.",
        '"This {food} needs more {fruits}," said {elder}.',
        "{pet_name} the {pet} ate most of the {food}.",
    ),
)

STORM: Episode = (
    (
        "Then a storm came over the {place}.",
        "In the night there was a great storm, and the rain fell on the {place}.",
        "The wind grew strong, and the sky over the {place} was black.",
    ),
    (
        "The wind took the {thing} out of the hands of {hero}.",
        "{hero} held the {noun} with both hands.",
        "{pet_name} the {pet} was afraid and hid {spot}.",
    ),
    (
        '"Hold on, {hero}!" cried {friend}.',
        '"Come inside, {pet_name}!" cried {hero}.',
        '"We must wait at the {place}," said {friend}.',
        "",
    ),
    (
        "When the storm was over, the {thing} was {spot}.",
        "In the morning the sun was bright, and {hero} found the {noun} {spot}.",
        "After the storm {hero} and {friend} mended the roof of {elder}.",
        "The storm went away, and {pet_name} came out again.",
    ),
)

LENDING: Episode = (
    (
        "{hero} lent the {thing} to {friend}, and {friend} lent it to {elder}.",
        "{friend} asked for the {thing}, and {hero} lent it to {friend_him}. Then {friend} lent the {noun} to {elder}.",
    ),
    (
        'When {hero} asked for the {noun}, {friend} said, "{elder} has it."',
        'After {number} days {hero} wanted the {noun} back. "Ask {elder}," said {friend}.',
        '"Who has my {noun}?" asked {hero}. "I gave it to {elder}," said {friend}.',
    ),
    (
        "So {elder} gave the {noun} back to {friend}, and {friend} gave it back to {hero}.",
        "{hero} went to {elder}, and {elder} gave the {thing} back to {hero}.",
        "But {elder} had left the {thing} at the {place}, {spot}.",
    ),
    (
        '"I will never lend my {noun} again," said {hero}.',
        '"It is a very good {noun}," said {elder}.',
        "",
    ),
)

HIDING: Episode = (
    (
        "{hero} hid the {thing} {spot}, and {friend} hid the {thing2} {spot2}.",
        "{hero} put the {thing} {spot}. {friend} put the {thing2} {spot2}.",
    ),
    (
        "Then {pet_name} the {pet} ran {spot3} and fell asleep.",
        "Then they went to the {place} and came back after {number} hours.",
        '"Nobody will ever find them," said {friend}.',
        "",
    ),
    (
        '"Where is the {noun}?" asked {elder}. "The {noun} is {spot}," said {hero}.',
        "{elder} looked for the {noun2} and found it {spot2}.",
        '"Where did you put the {noun2}?" asked {hero}. "I put it {spot2}," said {friend}.',
    ),
    (
        '"And where is the {noun2}?" "The {noun2} is {spot2}," said {friend}.',
        "The {thing} was still {spot}.",
        "In the end {hero} had the {thing} and {friend} had the {thing2}.",
    ),
)

LESSON: Episode = (
    (
        "{elder} taught {hero} three new words: {common1}, {common2} and {common3}.",
        '"Today we learn three words," said {elder}: "{common1}, {common2} and {common3}."',
        "In the book {hero} found the words {common1}, {common2} and {common3}.",
    ),
    (
        '"I know {common1} and {common2}," said {friend}, "but what is {common3}?"',
        "{hero} wrote {common1} on the door, {common2} on the wall and {common3} on the {noun}.",
        '"{common1}, {common2}, {common3}," said {hero} to {pet_name} the {pet}.',
    ),
    (
        '"Which words did you learn?" asked {friend}. "{common1}, {common2} and {common3}," said {hero}.',
        "The next day {hero} still knew {common1} and {common2} and {common3}.",
        "",
    ),
)

EPISODES: tuple[tuple[Episode, int], ...] = (
    (LOST, 12),
    (PACKING, 12),
    (TRADE, 10),
    (GIVING, 14),
    (SECRET, 8),
    (LETTER, 9),
    (MARKET, 9),
    (SONG, 6),
    (LESSON, 5),
    (RACE, 8),
    (JUMPING, 5),
    (FOX, 4),
    (WRITING, 2),
    (SCHOOL, 5),
    (COOKING, 8),
    (STORM, 8),
    (LENDING, 8),
    (HIDING, 10),
)
"""Every episode with its weight in the draw."""

STARTERS: tuple[tuple[Episode, int], ...] = ((GIVING, 5), (FOX, 4), (JUMPING, 3), (RACE, 2))
"""Episodes that may begin a story without an opening, with their weights."""

_VOWEL = re.compile(r"\b([Aa]) (?=[aeiou])")


def _draw(rng: random.Random, weighted: tuple[tuple[Episode, int], ...]) -> Episode:
    left = rng.randrange(sum(weight for _, weight in weighted))
    for episode, weight in weighted:
        left -= weight
        if left < 0:
            return episode
    raise AssertionError("the weights do not add up")


def _person(rng: random.Random) -> tuple[str, tuple[str, str, str]]:
    if rng.randrange(2):
        return rng.choice(GIRLS), ("she", "her", "her")
    return rng.choice(BOYS), ("he", "him", "his")


def _thing(rng: random.Random, noun: str) -> str:
    return f"{rng.choice(rng.choice((LOOKS, COLORS)))} {noun}"


def _cast(rng: random.Random) -> dict[str, str]:
    """Draw what stays the same through a whole story."""
    hero, (he, him, his) = _person(rng)
    friend, (friend_he, friend_him, _) = _person(rng)
    while friend == hero:
        friend, (friend_he, friend_him, _) = _person(rng)
    noun = rng.choice(NOUNS[:-1])
    trade, trade2 = rng.sample(TRADES, 2)
    return {
        "hero": hero,
        "he": he,
        "He": he.capitalize(),
        "him": him,
        "his": his,
        "friend": friend,
        "friend_he": friend_he,
        "friend_him": friend_him,
        "elder": rng.choice(ELDERS),
        "pet": rng.choice(PETS),
        "pet_name": rng.choice(PET_NAMES),
        "pet_temper": rng.choice(TEMPERS),
        "home": rng.choice(PLACES),
        "noun": noun,
        "thing": _thing(rng, noun),
        "trade": trade,
        "trade2": trade2,
    }


def _song(rng: random.Random) -> str:
    words = rng.sample(COMMON, rng.randrange(4, 9))
    if rng.randrange(2):
        words += words[:2]
    return " ".join(words)


def _numbered(rng: random.Random, field: str, choices: Sequence[str], count: int) -> dict[str, str]:
    return {f"{field}{place}": value for place, value in enumerate(rng.sample(choices, count), start=1)}


def _scene(rng: random.Random, cast: Mapping[str, str]) -> dict[str, str]:
    """Draw what is new in an episode, and add it to the cast."""
    a, b = rng.sample((cast["hero"], cast["friend"]), 2)
    noun2 = rng.choice([noun for noun in NOUNS[:-1] if noun != cast["noun"]])
    number = rng.choice(NUMBERS)
    country1, country2, country3 = (pair.split() for pair in rng.sample(CAPITALS, 3))
    fruits, fruits2, fruits3 = rng.sample(FRUITS, 3)
    place, place2 = rng.sample([place for place in PLACES if place != cast["home"]], 2)
    spot, spot2, spot3 = rng.sample(SPOTS, 3)
    return {
        **cast,
        **_numbered(rng, "item", NOUNS, 4),
        **_numbered(rng, "word", SECRETS, 3),
        **_numbered(rng, "common", COMMON, 3),
        **_numbered(rng, "temper", TEMPERS, 2),
        **_numbered(rng, "beast", WILD, 2),
        "color1": rng.choice(COLORS),
        "a": a,
        "b": b,
        "noun2": noun2,
        "thing2": _thing(rng, noun2),
        "number": number,
        "Number": number.capitalize(),
        "house": str(rng.randrange(1, 10)),
        "country1": country1[0],
        "city1": country1[1],
        "country2": country2[0],
        "city2": country2[1],
        "country3": country3[0],
        "city3": country3[1],
        "fruits": fruits,
        "fruits2": fruits2,
        "fruits3": fruits3,
        "food": rng.choice(FOODS),
        "place": place,
        "place2": place2,
        "spot": spot,
        "spot2": spot2,
        "spot3": spot3,
        "weather": rng.choice(WEATHERS),
        "daytime": rng.choice(("morning", "evening", "night", "day", "afternoon")),
        "song": _song(rng),
    }


def _tell(rng: random.Random, episode: Episode, scene: Mapping[str, str]) -> str:
    """Choose a sentence for every slot of an episode and join them."""
    sentences = (rng.choice(slot).format_map(scene) for slot in episode)
    return _VOWEL.sub(r"\1n ", " ".join(sentence for sentence in sentences if sentence))


def write_story(rng: random.Random) -> str:
    """Write one story: 50 to 400 tokens, in one paragraph or in one per episode."""
    cast = _cast(rng)
    scene = _scene(rng, cast)
    opening = OPENINGS if rng.randrange(5) else _draw(rng, STARTERS)
    parts = [_tell(rng, opening, scene)]
    told: list[Episode] = [opening]
    for _ in range(rng.choice((1, 1, 2, 2, 3))):
        episode = _draw(rng, EPISODES)
        if episode in told:
            continue
        told.append(episode)
        # Half of the episodes stay where the one before was.
        place = scene["place"]
        scene = _scene(rng, cast)
        if rng.randrange(2):
            scene["place"] = place
        parts.append(_tell(rng, episode, scene))
    parts.append(_tell(rng, ENDINGS, scene))
    separator = rng.choice((" ", " ", "\n"))
    return separator.join(part for part in parts if part)


def stories(seed: int) -> Iterator[str]:
    """Yield stories without end; the same seed gives the same stories in every process."""
    rng = random.Random(seed)
    while True:
        yield write_story(rng)


def first_stories(seed: int, count: int) -> list[str]:
    """Return the first `count` stories of a seed."""
    return list(islice(stories(seed), count))
