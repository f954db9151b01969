"""What the bot says: a small descendant of ELIZA (Joseph Weizenbaum, 1966), which turns people's own words into questions."""

import re
from collections.abc import Sequence
from zlib import crc32

RULES: Sequence[tuple[re.Pattern[str], Sequence[str]]] = [
    (re.compile(pattern, re.IGNORECASE), replies)
    for pattern, replies in [
        (r"^(?:hello|good morning|hi)\b", ["Hello. What is on your mind?", "Good to hear from you. Please go on."]),
        (r"\b(?:thank you|goodbye|be well)\b", ["You are welcome. Come back whenever you like.", "Be well. I enjoyed this."]),
        (r"\bI(?: am|'m) not ([^.,;?!]+)", ["Would it be better if you were {}?", "Who says that you should be {}?"]),
        (r"\bI(?: am|'m) ([^.,;?!]+)", ["How long have you been {}?", "How does it feel to be {}?"]),
        (r"\bI (?:can't|cannot) ([^.,;?!]+)", ["What would happen if you could {}?", "What keeps you from it?"]),
        (r"\bI (?:want|need|would like|'d like) ([^.,;?!]+)", ["What would it mean to you to get {}?", "Why do you want {}?"]),
        (r"\bI (?:remember|used to) ([^.,;?!]+)", ["Do you often think of {}?", "What else comes to mind with that?"]),
        (r"\bI (?:think|believe|know|hope)(?: that)? ([^.,;?!]+)", ["Are you sure that {}?", "What if it were not so?"]),
        (r"\bbecause ([^.,;?!]+)", ["Is that the only reason?", "And if it were not for that?"]),
        (r"\b(?:perhaps|maybe) ([^.,;?!]+)", ["You do not seem quite certain.", "What speaks for it?"]),
        (r"\b(always|never|everyone|everybody|nobody)\b", ["Really {}?", "{}? Can you think of one exception?"]),
        (r"\bmy (mother|father|brother|sister|wife|husband|son|daughter|aunt|uncle|grandmother|cousin)\b",
         ["Tell me more about your {}.", "What would your {} say to that?"]),
        (r"\bmy ([a-z]+)", ["What does your {} mean to you?", "Tell me more about your {}."]),
        (r"\?$", ["What do you think yourself?", "Why do you ask?"]),
    ]
]  # fmt: skip

OTHERWISE = ["I see.", "Please go on.", "And what happened then?", "How did that make you feel?", "Tell me more about it."]

OTHER_PERSON = {
    "am": "are", "i": "you", "i'm": "you're", "i'd": "you'd", "i'll": "you'll", "i've": "you've", "me": "you", "mine": "yours",
    "my": "your", "myself": "yourself", "our": "your", "us": "you", "was": "were", "we": "you", "you": "I", "your": "my",
}  # fmt: skip


def reply_to(said: str) -> str:
    """The answer: always the same one to the same words."""
    for pattern, replies in RULES:
        if found := pattern.search(said):
            fragment = _turned(found[1]) if pattern.groups else ""
            return _capitalized(_pick(replies, said).format(fragment))
    return _pick(OTHERWISE, said)


def _turned(fragment: str) -> str:
    return " ".join(OTHER_PERSON.get(word.lower(), word) for word in fragment.split())


def _pick(replies: Sequence[str], said: str) -> str:
    return replies[crc32(said.encode()) % len(replies)]


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
